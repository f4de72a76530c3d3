//! Takes out of a BPF object what its loader does not read.
//!
//! Stays: programs, maps, their relocations and symbols, `.BTF`, and `.BTF.ext` with function and line
//! information. Goes: DWARF, and the relocations of BTF sections, whose values the compiler has already put in place.

use anyhow::{Context, Result, ensure};
use object::build::elf::{Builder, Section, SectionData};
use object::elf::{EM_BPF, ET_REL, SHT_STRTAB, STT_FILE};

/// The stripped object.
pub(crate) fn strip(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the linker's output is not an ELF file")?;
    ensure!(
        builder.header.e_type == ET_REL && builder.header.e_machine == EM_BPF,
        "the linker's output is not a relocatable BPF object"
    );
    for section in builder.sections.iter_mut() {
        section.delete = is_superfluous(&section.name);
    }
    for symbol in builder.symbols.iter_mut() {
        let section_goes = symbol
            .section
            .is_some_and(|id| builder.sections.get(id).delete);
        symbol.delete = section_goes || symbol.st_type() == STT_FILE;
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections and of symbols in one table; the writer wants two.
    let has_section_names =
        |section: &Section<'_>| matches!(section.data, SectionData::SectionString);
    if !builder.sections.iter().any(has_section_names) {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    builder.set_section_sizes();
    for name in [".BTF", ".BTF.ext", "license", ".maps"] {
        ensure!(
            builder
                .sections
                .iter()
                .any(|section| &*section.name == name.as_bytes()),
            "the kernel object has no section {name}: crates/ebpf must define it"
        );
    }
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .context("cannot write the stripped object")?;
    Ok(stripped)
}

fn is_superfluous(section: &[u8]) -> bool {
    section.starts_with(b".debug")
        || section.starts_with(b".rel.debug")
        || section.starts_with(b".rel.BTF")
        || section == b".llvm_addrsig"
        || section == b".comment"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_dwarf_and_btf_relocations_are_superfluous() {
        for name in [".debug_info", ".rel.debug_line", ".rel.BTF", ".rel.BTF.ext"] {
            assert!(is_superfluous(name.as_bytes()), "{name}");
        }
        for name in [
            ".BTF",
            ".BTF.ext",
            ".text",
            ".relxdp",
            ".rel.text",
            "license",
            ".maps",
            ".symtab",
        ] {
            assert!(!is_superfluous(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_is_no_bpf_object_is_refused() {
        let error = strip(b"#!/bin/sh\n").unwrap_err();
        assert_eq!(error.to_string(), "the linker's output is not an ELF file");
    }
}
