//! Resolved addresses and redirects.

use reqwest::Url;

use super::*;

#[test]
fn names_may_not_resolve_to_the_machine_the_cloud_or_the_api_server() {
    for (ip, unlisted, listed) in [
        ("93.184.216.34", true, true),
        ("10.1.2.3", true, true),
        ("192.168.0.1", true, true),
        ("2001:db8::1", true, true),
        ("fd12::1", true, true),
        ("127.0.0.1", false, true),
        ("127.9.9.9", false, true),
        ("::1", false, true),
        ("::ffff:127.0.0.1", false, true),
        ("::127.0.0.1", false, true),
        ("0.0.0.0", false, true),
        ("0.1.2.3", false, true),
        ("::", false, true),
        ("169.254.169.254", false, true),
        ("::ffff:169.254.169.254", false, true),
        ("64:ff9b::a9fe:a9fe", false, true),
        ("2002:a9fe:a9fe::1", false, true),
        ("fe80::1", false, true),
        ("fd00:ec2::254", false, true),
        ("fd00:ec2::23", false, true),
        ("fd20:ce::254", false, true),
        ("168.63.129.16", false, true),
        ("100.100.100.200", false, true),
        ("10.96.0.1", false, true),
        ("::ffff:10.96.0.1", false, true),
        ("fd00::1", false, true),
        ("224.0.0.1", false, false),
        ("ff02::1", false, false),
        ("255.255.255.255", false, false),
    ] {
        let address = ip.parse().unwrap();
        assert_eq!(
            address_allowed(address, false, &own()).is_ok(),
            unlisted,
            "{ip} unlisted"
        );
        assert_eq!(
            address_allowed(address, true, &own()).is_ok(),
            listed,
            "{ip} listed"
        );
    }
}

#[test]
fn redirects_stay_where_they_came_from_or_go_where_the_platform_says() {
    let policy = policy(
        "policy: {vaultAddresses: ['https://vault.example:8200', 'https://*.nodes.example:8200']}",
    );
    let from: Url = "https://vault.example:8200/v1/kv/data/x?version=1"
        .parse()
        .unwrap();
    for (to, wanted) in [
        ("https://vault.example:8200/v1/kv/data/x?version=1", true),
        ("https://VAULT.example:8200/elsewhere", true),
        ("https://node-1.nodes.example:8200/v1/kv/data/x", true),
        ("http://vault.example:8200/v1/kv/data/x", false),
        ("https://vault.example/v1/kv/data/x", false),
        ("https://u:p@vault.example:8200/v1/kv/data/x", false),
        ("https://thief.example:8200/v1/kv/data/x", false),
        ("https://a.b.nodes.example:8200/", false),
        ("data:text/plain,x", false),
    ] {
        let to: Url = to.parse().unwrap();
        assert_eq!(
            redirect_allowed(&from, &to, &policy).is_ok(),
            wanted,
            "{to}"
        );
    }
    let elsewhere: Url = "https://other.example".parse().unwrap();
    assert!(redirect_allowed(&from, &elsewhere, &super::policy("")).is_err());
}
