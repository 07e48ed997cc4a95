//! What of the guardrails only shows when packets travel: redirects, and names
//! that lead to addresses of others. Each shows that nothing arrived there.

use std::net::IpAddr;
use std::sync::Arc;

use super::http::{endpoint, held, port, port_with};
use super::permitted;
use super::server::{Server, answer};
use crate::policy::Connection;
use crate::problem::{Problem, Retry};
use crate::vault::{TravelRules, Vault};

const DATA: &str = r#"{"data":{"a":"x"}}"#;

fn listed(address: String) -> TravelRules {
    TravelRules {
        address: Arc::new(|_, _: &Connection| Ok(())),
        redirect: Arc::new(move |to, _: &Connection| match to == address {
            true => Ok(()),
            false => Err("it is not listed".to_owned()),
        }),
    }
}

fn to(location: String) -> impl Fn(&super::server::Seen) -> super::server::Answer {
    move |_| answer(307, "").with("Location", location.clone())
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let thief = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let other_port = thief.address("localhost");
    for location in [
        format!("{other_port}/v1/a"),
        other_port.replace("https:", "http:"),
        other_port.replace("localhost", "user:pw@localhost"),
        format!("//localhost:{}/v1/a", thief.port),
    ] {
        let vault = Server::start(&["localhost"], to(location.clone())).await;
        let permitted = permitted(&vault.address("localhost"), "a");
        let (port, told) = port();
        let endpoint = endpoint(&permitted, &vault);
        let problem = port
            .read(&endpoint, &held(), permitted.read())
            .await
            .unwrap_err();
        assert_eq!(problem.reason(), "PolicyDenied", "{location}: {problem}");
        // The next answer may be another.
        assert_eq!(problem.retry(), Retry::Backoff);
        let text = problem.to_string();
        assert!(
            text.contains(&format!("localhost:{}", thief.port)),
            "{text}"
        );
        assert!(!text.contains("pw"), "{text}");
        assert_eq!(*told.borrow(), [("read", "redirect")]);
    }
    assert_eq!(thief.connections(), 0);
}

#[tokio::test]
async fn a_login_is_not_carried_to_another_host_either() {
    let thief = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let vault = Server::start(&["localhost"], to(thief.address("localhost"))).await;
    let permitted = permitted(&vault.address("localhost"), "a");
    let endpoint = endpoint(&permitted, &vault);
    let jwt = crate::key::Redacted::new("a.b.c".to_owned());
    let problem = port().0.login(&endpoint, permitted.login(), &jwt).await;
    assert_eq!(problem.unwrap_err().reason(), "PolicyDenied");
    assert_eq!(thief.connections(), 0);
}

#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed_three_times() {
    for (hops, works) in [(3, true), (4, false)] {
        let vault = Server::start(&["localhost"], move |seen| {
            let hop: usize = seen.line.matches("/next").count();
            match hop < hops {
                true => {
                    let path = seen.line.trim_start_matches("GET ");
                    answer(308, "").with("Location", format!("{path}/next"))
                }
                false => answer(200, DATA),
            }
        })
        .await;
        let permitted = permitted(&vault.address("localhost"), "a");
        let endpoint = endpoint(&permitted, &vault);
        let answered = port().0.read(&endpoint, &held(), permitted.read()).await;
        assert_eq!(answered.is_ok(), works);
        if let Err(problem) = answered {
            assert!(
                problem.to_string().contains("more than 3 redirects"),
                "{problem}"
            );
        }
        let seen = vault.requests();
        assert_eq!(seen.len(), 4);
        assert_eq!(seen[3].line, "GET /v1/a/next/next/next");
        assert!(
            seen.iter()
                .all(|s| s.header("x-vault-token") == ["hvs.canary"])
        );
    }
}

#[tokio::test]
async fn a_redirect_to_a_listed_address_is_followed() {
    let active = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let location = format!("{}/v1/a", active.address("localhost"));
    let standby = Server::start(&["localhost"], to(location)).await;
    let permitted = permitted(&standby.address("localhost"), "a");
    let mut endpoint = endpoint(&permitted, &standby);
    endpoint.ca_pem = Some([standby.ca_pem.as_bytes(), active.ca_pem.as_bytes()].concat());
    let (port, told) = port_with(listed(active.address("localhost")));
    port.read(&endpoint, &held(), permitted.read())
        .await
        .unwrap();
    assert_eq!(active.requests()[0].line, "GET /v1/a");
    assert_eq!(active.requests()[0].header("x-vault-token"), ["hvs.canary"]);
    assert_eq!(*told.borrow(), [("read", "redirect"), ("read", "ok")]);
}

#[tokio::test]
async fn other_redirects_are_not_followed() {
    for status in [301, 302, 303] {
        let vault = Server::start(&["localhost"], move |seen| {
            match seen.line.contains("/next") {
                true => answer(200, DATA),
                false => answer(status, "").with("Location", "/next?secret=1"),
            }
        })
        .await;
        let permitted = permitted(&vault.address("localhost"), "a");
        let endpoint = endpoint(&permitted, &vault);
        let answered = port().0.read(&endpoint, &held(), permitted.read()).await;
        let text = answered.unwrap_err().to_string();
        assert!(text.contains("/next, which is not followed"), "{text}");
        assert_eq!(vault.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_address_that_the_guardrails_refuse_gets_no_connection() {
    let vault = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let rules = TravelRules {
        address: Arc::new(|address: IpAddr, connection: &Connection| {
            assert!(connection.address.starts_with("https://"));
            match address.is_loopback() {
                true => Err(format!("{address} is a loopback address")),
                false => Ok(()),
            }
        }),
        redirect: Arc::new(|_, _: &Connection| Ok(())),
    };
    let (port, _) = port_with(rules);
    // By name, as a literal, and as an IPv4 address in the clothes of IPv6.
    for host in ["localhost", "127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let permitted = permitted(&vault.address(host), "a");
        let endpoint = endpoint(&permitted, &vault);
        let problem = port
            .read(&endpoint, &held(), permitted.read())
            .await
            .unwrap_err();
        let Problem::PolicyDenied { rule, why, .. } = &problem else {
            panic!("{host}: {problem}")
        };
        assert_eq!(*rule, "policy.vaultAddresses");
        assert!(why.contains("is a loopback address"), "{why}");
    }
    assert_eq!(vault.connections(), 0);
}
