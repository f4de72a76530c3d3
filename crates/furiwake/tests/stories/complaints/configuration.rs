//! What is wanted, saved and brought back.

use furiwake_lab::Hook;

use crate::support::{ask, client, connect, director, fields, finish, ipvsadm, kill, nat, ok};

#[test]
fn w18_a_save_leaves_nothing_out_if_asked() {
    let lab = nat("w18", Hook::Tc);
    ipvsadm(&lab, "-C");
    ipvsadm(&lab, "--set 800 70 150");
    ipvsadm(
        &lab,
        "-A -t 192.168.56.50:80 -s sh -b sh-port,sh-fallback -p 77 -M 255.255.0.0",
    );
    ipvsadm(
        &lab,
        "-a -t 192.168.56.50:80 -r 10.0.0.10 -m -w 3 -x 500 -y 300",
    );
    ipvsadm(
        &lab,
        "-a -t 192.168.56.50:80 -r 10.0.0.20 -i --tun-type gue --tun-port 6080 --tun-csum",
    );
    ipvsadm(&lab, "-A -u 192.168.56.50:53 -s maglev -o");
    ipvsadm(&lab, "-a -u 192.168.56.50:53 -r 10.0.0.20 -g -w 0");
    ok(&director(&lab), "furiwake set expire_nodest_conn 1");
    let picture = || {
        ["-Ln", "-Ln --thresholds", "-L --timeout", "-S -n --all"]
            .map(|words| ipvsadm(&lab, words))
            .join("\n")
    };
    let before = picture();
    let saved = lab.folder().join("saved");
    let saved = saved.display();
    ok(
        &director(&lab),
        &format!(
            "ipvsadm-save -n --all > {saved} && ipvsadm -C && ipvsadm --set 1 2 3 \
             && furiwake set expire_nodest_conn 0"
        ),
    );
    assert_ne!(picture(), before);
    ok(&director(&lab), &format!("ipvsadm-restore < {saved}"));
    assert_eq!(picture(), before);
}

#[test]
fn w24_what_is_wanted_is_what_is_after_everything_restarted() {
    let lab = nat("w24", Hook::Xdp);
    let wanted = ipvsadm(&lab, "-S -n");
    let held = connect(&client(&lab), furiwake_lab::Nat::VIP, 80).unwrap();
    // A server is taken out for a while, and whoever meant to put it back died.
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.20 -m -w 0");
    assert_eq!(ask(&lab, 2), ["rs1"; 2]);
    kill(&lab);
    lab.mend_node("director").unwrap();
    assert_eq!(
        fields(&ipvsadm(&lab, "-Ln -t 192.168.56.50:80"), "10.0.0.20:80")[1],
        "0"
    );
    let file = lab.folder().join("wanted");
    std::fs::write(&file, &wanted).unwrap();
    ok(
        &director(&lab),
        &format!("furiwake restore {}", file.display()),
    );
    assert_eq!(ipvsadm(&lab, "-S -n"), wanted);
    let mut answers = ask(&lab, 2);
    answers.sort();
    assert_eq!(answers, ["rs1", "rs2"]);
    // Only the difference was changed: the connection is where it was.
    assert_eq!(finish(held), "rs2");
}
