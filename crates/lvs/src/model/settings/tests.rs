//! What settings take and refuse, as the recorded kernel does.

use super::*;

#[test]
fn a_switch_keeps_the_number_it_was_given() {
    let mut settings = Settings::default();
    settings
        .set("sloppy_tcp", "3")
        .expect("the kernel takes it");
    settings
        .set("schedule_icmp", "7")
        .expect("the kernel takes it");
    assert_eq!((settings.sloppy_tcp, settings.schedule_icmp), (3, 7));
}

#[test]
fn what_the_kernel_refuses_is_refused_with_range_and_default() {
    let mut settings = Settings::default();
    for (name, value) in [
        ("sync_version", "9"),
        ("sync_threshold", "10 5"),
        ("sync_threshold", "-1 5"),
        ("sync_threshold", "5"),
        ("sync_threshold", "1 2 3"),
        ("sync_ports", "3"),
        ("sync_ports", "0"),
        ("sync_retries", "4"),
        ("drop_entry", "4"),
        ("secure_tcp", "-1"),
        ("est_nice", "20"),
        ("est_cpulist", "x"),
        ("conn_lfactor", "9"),
        ("sync_qlen_max", "-1"),
        ("pmtu_disc", "yes"),
        ("pmtu_disc", ""),
    ] {
        let error = settings.set(name, value).expect_err(name).to_string();
        assert!(error.contains("it takes"), "{error}");
    }
    assert_eq!(settings, Settings::default());
    assert_eq!(
        settings
            .set("drop_packet", "4")
            .expect_err("too much")
            .to_string(),
        "drop_packet cannot be \"4\": it takes a number from 0 to 3, by default 0"
    );
    assert_eq!(
        settings.set("drop", "4").expect_err("unknown").to_string(),
        "there is no setting drop: `furiwake set` lists them"
    );
}

#[test]
fn two_numbers_are_one_setting() {
    let mut settings = Settings::default();
    settings
        .set("sync_threshold", "5\t10")
        .expect("as the kernel prints it");
    assert_eq!(
        settings.sync_threshold,
        SyncThreshold {
            threshold: 5,
            period: 10
        }
    );
    settings.set("sync_threshold", "7 0").expect("never again");
}

#[test]
fn every_setting_takes_its_own_value_and_default() {
    let mut settings = Settings::default();
    for setting in SETTINGS {
        settings
            .set(setting.name, &setting.default_value())
            .expect(setting.name);
        assert!(
            setting.meaning.len() < 120 && !setting.meaning.ends_with('.'),
            "{}",
            setting.name
        );
    }
    assert_eq!(settings.check(), Ok(()));
    assert_eq!(settings.changed().count(), 0);
    settings.sync_version = 9;
    assert!(settings.check().is_err());
    assert_eq!(
        settings
            .changed()
            .map(|setting| setting.name)
            .collect::<Vec<_>>(),
        ["sync_version"]
    );
}

#[test]
fn an_old_document_has_every_setting_at_its_default() {
    let old: crate::model::Table = serde_json::from_str(
        r#"{"services": [], "timeouts": {"tcp": 900, "tcp_fin": 120, "udp": 300}}"#,
    )
    .expect("a table");
    assert_eq!(old, crate::model::Table::default());
    let partly: Settings = serde_json::from_str(r#"{"conn_reuse_mode": 0}"#).expect("settings");
    assert_eq!((partly.conn_reuse_mode, partly.pmtu_disc), (0, 1));
    assert!(serde_json::from_str::<Settings>(r#"{"conn_reuse": 0}"#).is_err());
}
