//! What kind of interface it is: its driver, and what is built on it.

use std::{
    ffi::CString,
    fs, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// The driver of an interface, as `ethtool -i` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Driver {
    pub(crate) name: String,
    /// Where the device is on its bus; nothing for interfaces without one.
    bus: String,
}

/// Drivers that have a place on a bus and yet hand over packets that never were on a wire.
const OF_HYPERVISORS: &[&str] = &["tun", "virtio_net", "hv_netvsc", "vif", "vmxnet3", "mana"];

/// What drivers without a device say of their bus.
const NO_BUS: &[&str] = &["", "N/A"];

impl Driver {
    /// The driver of an interface in the namespace of the calling thread.
    pub(crate) fn of(interface: &str) -> Option<Self> {
        /// `struct ethtool_drvinfo`.
        #[repr(C)]
        struct Info {
            command: u32,
            driver: [u8; 32],
            version: [u8; 32],
            firmware: [u8; 32],
            bus: [u8; 32],
            rest: [u8; 64],
        }
        const ETHTOOL_GDRVINFO: u32 = 3;
        let name = CString::new(interface).ok()?;
        // SAFETY: socket takes numbers; the descriptor is owned at once.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return None;
            }
            OwnedFd::from_raw_fd(fd)
        };
        let mut info = Info {
            command: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            version: [0; 32],
            firmware: [0; 32],
            bus: [0; 32],
            rest: [0; 64],
        };
        // SAFETY: all zero is a valid ifreq; the name is cut to its field.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        for (to, from) in request
            .ifr_name
            .iter_mut()
            .zip(name.as_bytes().iter().take(libc::IFNAMSIZ - 1))
        {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut info).cast();
        // SAFETY: the request points at a structure of the size that this command fills.
        if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } != 0 {
            return None;
        }
        Some(Self {
            name: text(&info.driver),
            bus: text(&info.bus),
        })
    }

    /// Whether packets come from a wire, so that their checksums are finished.
    pub(crate) fn is_of_a_wire(&self) -> bool {
        !NO_BUS.contains(&self.bus.as_str()) && !OF_HYPERVISORS.contains(&self.name.as_str())
    }

    /// Why native XDP is not what this interface should have when nobody asks for it.
    pub(crate) fn objection(&self) -> Option<String> {
        match self.name.as_str() {
            "veth" | "virtio_net" => Some(format!(
                "{} hands over super-packets, which XDP would have cut up",
                self.name
            )),
            _ if self.is_of_a_wire() => None,
            _ => Some("a virtual interface: its lower ones are where XDP pays".to_owned()),
        }
    }
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// VLAN interfaces (802.1Q) on an interface, in the namespace of the calling thread.
pub(crate) fn vlans_on(interface: &str) -> Vec<String> {
    // Without the module there is no such file.
    let table = fs::read_to_string("/proc/thread-self/net/vlan/config").unwrap_or_default();
    vlans_in(&table, interface)
}

/// The rows are `eth0.100  | 100  | eth0`, below a heading of two lines.
fn vlans_in(table: &str, interface: &str) -> Vec<String> {
    let upper = |row: &str| {
        let mut columns = row.split('|').map(str::trim);
        let (name, _, below) = (columns.next()?, columns.next()?, columns.next()?);
        (below == interface).then(|| name.to_owned())
    };
    table.lines().filter_map(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(name: &str, bus: &str) -> Driver {
        Driver {
            name: name.into(),
            bus: bus.into(),
        }
    }

    #[test]
    fn only_cards_have_packets_from_a_wire() {
        for (name, bus) in [
            ("ixgbe", "0000:01:00.0"),
            ("mlx5_core", "0000:3b:00.1"),
            ("ena", "0000:00:05.0"),
        ] {
            assert!(driver(name, bus).is_of_a_wire(), "{name}");
            assert_eq!(driver(name, bus).objection(), None);
        }
        let others = [
            ("veth", ""),
            ("tun", "tap"),
            ("virtio_net", "0000:00:03.0"),
            ("bonding", ""),
            ("bridge", "N/A"),
            ("netkit", ""),
        ];
        for (name, bus) in others {
            assert!(!driver(name, bus).is_of_a_wire(), "{name}");
            assert!(driver(name, bus).objection().is_some(), "{name}");
        }
    }

    #[test]
    fn vlans_are_read_from_the_kernels_table() {
        let table = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                     eth0.100       | 100  | eth0\nguests         | 7  | eth1\neth0.200       | 200  | eth0\n";
        assert_eq!(vlans_in(table, "eth0"), ["eth0.100", "eth0.200"]);
        assert_eq!(vlans_in(table, "eth1"), ["guests"]);
        assert_eq!(vlans_in(table, "eth2"), Vec::<String>::new());
        assert_eq!(vlans_in("", "eth0"), Vec::<String>::new());
    }
}
