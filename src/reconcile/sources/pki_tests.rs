#![allow(clippy::unwrap_used)]
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SerialNumber};

/// Begin of 2030, in seconds since 1970.
const BEGIN: i64 = 1_893_456_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn resource(spec: Value) -> VaultPKISecret {
    let mut whole = json!({
        "metadata": { "name": "web", "namespace": "team" },
        "spec": { "mount": "pki", "role": "web", "destination": { "name": "web" } },
    });
    for (name, value) in spec.as_object().into_iter().flatten() {
        whole["spec"][name] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

/// What an engine answers, in its three formats.
struct Issued {
    leaf: (String, Vec<u8>),
    issuer: (String, Vec<u8>),
    key: (String, Vec<u8>),
}

/// A certificate of the years from 2030 on, by an issuer that ends with 2049.
fn issued(until_year: i32) -> Issued {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2050, 1, 1);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let mut params = CertificateParams::new(vec!["web.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    params.serial_number = Some(SerialNumber::from(vec![0x1f, 0x02, 0xab]));
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    // As Vault spells them: line feeds, none at the end.
    let spelled = |pem: String| pem.replace('\r', "").trim_end().to_owned();
    Issued {
        leaf: (spelled(leaf.pem()), leaf.der().to_vec()),
        issuer: (spelled(ca.pem()), ca.der().to_vec()),
        key: (spelled(key.serialize_pem()), key.serialize_der()),
    }
}

impl Issued {
    fn answer(&self, format: &str) -> Value {
        let text = |both: &(String, Vec<u8>)| match format {
            "der" => STANDARD.encode(&both.1),
            _ => both.0.clone(),
        };
        let issuer = text(&self.issuer);
        let certificate = match format {
            "pem_bundle" => format!("{}\n{}\n{issuer}", self.key.0, self.leaf.0),
            _ => text(&self.leaf),
        };
        json!({
            "certificate": certificate, "issuing_ca": issuer, "ca_chain": [issuer, issuer],
            "private_key": text(&self.key), "private_key_type": "ed25519",
            "serial_number": "1f:02:ab", "expiration": 1,
        })
    }
}

fn material(spec: Value, answer: &Value, now: Timestamp) -> Result<Material, Problem> {
    let resource = resource(spec);
    let read = resource.request(None).unwrap();
    let reply = Reply {
        status: 200,
        data: Some(Redacted::new(to_raw_value(answer).unwrap())),
        ..Reply::default()
    };
    resource.material(&read, reply, now)
}

#[test]
fn every_field_is_asked_for_as_the_engine_takes_it() {
    let bare = resource(json!({})).request(None).unwrap();
    assert_eq!((bare.path.as_str(), bare.mints), ("pki/issue/web", true));
    let empty = json!({
        "common_name": "", "alt_names": "", "ip_sans": "", "uri_sans": "", "other_sans": "",
        "user_ids": "", "ttl": "", "not_after": "", "exclude_cn_from_sans": false,
        "remove_roots_from_chain": true,
    });
    assert_eq!(bare.body.map(Value::Object), Some(empty));
    let full = json!({
        "mount": "/pki/", "issuerRef": "next", "commonName": "web.test",
        "altNames": ["a.test", "b@test"], "ipSans": ["127.0.0.1", "::1"], "uriSans": ["spiffe://a"],
        "otherSans": ["1.2.3;UTF8:x"], "userIDs": ["u", "v"], "ttl": "1h", "notAfter": "2030-01-01T00:00:00Z",
        "excludeCNFromSans": true, "format": "der", "privateKeyFormat": "pkcs8",
    });
    let full = resource(full).request(None).unwrap();
    assert_eq!(full.path, "pki/issuer/next/issue/web");
    let asked = json!({
        "common_name": "web.test", "alt_names": "a.test,b@test", "ip_sans": "127.0.0.1,::1",
        "uri_sans": "spiffe://a", "other_sans": "1.2.3;UTF8:x", "user_ids": "u,v", "ttl": "1h",
        "not_after": "2030-01-01T00:00:00Z", "exclude_cn_from_sans": true,
        "remove_roots_from_chain": true, "format": "der", "private_key_format": "pkcs8",
    });
    assert_eq!(full.body.map(Value::Object), Some(asked));
    for wrong in [json!({ "mount": "/" }), json!({ "role": "" })] {
        let refused = resource(wrong).request(None);
        assert!(matches!(refused, Err(Problem::InvalidSpec { .. })));
    }
    let offset = resource(json!({ "expiryOffset": "soon" })).terms(0.0);
    assert!(matches!(offset, Err(Problem::InvalidSpec { .. })));
}

#[test]
fn a_secret_for_tls_has_pem_whatever_the_format() {
    let issued = issued(2031);
    let tls =
        |format: &str| json!({ "format": format, "destination": { "name": "web", "type": TLS } });
    let chain = format!(
        "{}\n{}\n{}",
        issued.leaf.0, issued.issuer.0, issued.issuer.0
    );
    for format in ["pem", "pem_bundle", "der"] {
        let found = material(tls(format), &issued.answer(format), at(BEGIN)).unwrap();
        let fixed = &found.content.fixed;
        let text = |key: &str| String::from_utf8(fixed[key].expose().clone()).unwrap();
        assert_eq!(text("tls.crt"), chain, "{format}");
        assert_eq!(text("ca.crt"), issued.issuer.0, "{format}");
        assert_eq!(text("tls.key"), issued.key.0, "{format}");
        assert_eq!(found.content.fields.len(), 7, "{format}");
    }
    let mut without = issued.answer("pem");
    without.as_object_mut().unwrap().remove("ca_chain");
    let found = material(tls("pem"), &without, at(BEGIN)).unwrap();
    let crt = found.content.fixed["tls.crt"].expose();
    let both = format!("{}\n{}", issued.leaf.0, issued.issuer.0);
    assert_eq!(*crt, both.into_bytes(), "its issuer in place of a chain");
    let plain = material(json!({}), &issued.answer("pem"), at(BEGIN)).unwrap();
    assert!(plain.content.fixed.is_empty());
    let joined = plain.content.fields["ca_chain"].get();
    let joined: String = serde_json::from_str(joined).unwrap();
    assert_eq!(joined, format!("{0}\n{0}", issued.issuer.0));
}

#[test]
fn a_serial_number_is_spelled_as_the_engine_does() {
    let spelled = |der: &[u8]| certificate::serial(der);
    assert_eq!(spelled(&[0x1f, 0x02, 0xab]), "1f:02:ab");
    assert_eq!(
        spelled(&[0x00, 0x86, 0x00]),
        "86:00",
        "DER keeps it positive"
    );
    assert_eq!(spelled(&[0x00]), "00");
}

#[test]
fn keys_in_der_are_named_by_their_kind() {
    for (type_, format, label) in [
        ("rsa", "", "RSA PRIVATE KEY"),
        ("ec", "der", "EC PRIVATE KEY"),
        ("ed25519", "", "PRIVATE KEY"),
        ("rsa", "pkcs8", "PRIVATE KEY"),
    ] {
        let pem = key_pem("AAAA", type_, format).unwrap();
        let whole = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----");
        assert_eq!(pem, whole);
    }
    assert!(key_pem("not base64!", "rsa", "").is_err());
}

#[test]
fn its_end_is_what_the_certificate_says() {
    let issued_now = issued(2031);
    let found = material(json!({}), &issued_now.answer("pem"), at(BEGIN + 30)).unwrap();
    let grant = found.grant.unwrap();
    assert_eq!(grant.serial, "1f:02:ab");
    assert_eq!(
        grant.seconds,
        365 * 24 * 3600 - 30,
        "and not the answer's field"
    );
    assert!(!grant.issuer_first);
    // What was read back is set right by the certificate.
    let resource = resource(json!({}));
    let raw = to_raw_value(&issued_now.answer("pem")).unwrap();
    let forged = Grant {
        serial: "aa".to_owned(),
        since: at(BEGIN + 30),
        seconds: 1 << 40,
        issuer_first: true,
        ..grant.clone()
    };
    assert_eq!(resource.granted(&raw, "pki", forged).unwrap(), grant);
    let late = Grant {
        since: at(BEGIN * 2),
        ..grant.clone()
    };
    assert_eq!(
        resource.granted(&raw, "pki", late).unwrap().since,
        at(BEGIN)
    );
}

#[test]
fn one_that_ended_before_it_came_or_ends_with_its_issuer_is_told() {
    let ended = material(json!({}), &issued(2031).answer("pem"), at(BEGIN * 2));
    assert!(matches!(ended, Err(Problem::CertificateTooShort { .. })));
    let [with, after] = [2050, 2060].map(|until| {
        let found = material(json!({}), &issued(until).answer("pem"), at(BEGIN + 30));
        found.unwrap().grant.unwrap()
    });
    assert!(with.issuer_first);
    let end = |grant: &Grant| later(grant.since, grant.duration());
    assert_eq!((after.issuer_first, end(&after)), (true, end(&with)));
    let refusal = |why: &str| {
        resource(json!({})).explained(Problem::VaultAnswerUnusable {
            path: "pki/issue/web".to_owned(),
            why: why.to_owned(),
            refusal: true,
        })
    };
    let failing = |why: &str| {
        let problem = Problem::VaultUnavailable {
            address: "https://vault.test".to_owned(),
            why: why.to_owned(),
        };
        resource(json!({})).explained(problem).reason()
    };
    assert_eq!(
        failing(&format!("HTTP 500: {NO_ISSUER}: nobody")),
        "VaultClientError"
    );
    assert_eq!(failing("HTTP 500: internal error"), "VaultUnavailable");
    let beyond = format!("HTTP 400: notAfter is {BEYOND_ISSUER} at 2030");
    assert_eq!(refusal(&beyond).reason(), "IssuerExpiresFirst");
    assert_eq!(
        refusal("HTTP 400: unknown role").reason(),
        "VaultClientError"
    );
}

#[test]
fn what_is_no_certificate_is_refused_without_a_quote() {
    for (field, text) in [
        ("certificate", "canary"),
        ("certificate", ""),
        ("issuing_ca", "canary"),
        ("private_key", "-canary-"),
    ] {
        let mut answer = issued(2031).answer("pem");
        answer[field] = json!(text);
        let tls = json!({ "destination": { "name": "web", "type": TLS } });
        let problem = material(tls, &answer, at(BEGIN)).unwrap_err();
        assert_eq!(problem.reason(), "VaultClientError", "{field}");
        assert!(!problem.to_string().contains("canary"), "{problem}");
    }
}

#[test]
fn status_tells_serial_and_end_and_what_stands_against_it() {
    let grant = Grant {
        serial: "1f:02:ab".to_owned(),
        since: at(100),
        seconds: 50,
        ..Grant::default()
    };
    let held = Held {
        grant,
        renewed: None,
    };
    let resource = resource(json!({}));
    let told = resource.status_fields(Some(&held), None);
    let whole = json!({
        "lastGeneration": 0, "lastRotation": 100, "serialNumber": "1f:02:ab",
        "expiration": 150, "valid": true, "error": "",
    });
    assert_eq!(told, whole);
    let problem = Problem::DestinationMissing {
        name: "web".to_owned(),
    };
    let told = resource.status_fields(None, Some(&problem));
    assert_eq!(
        (told["valid"].clone(), told["error"].clone()),
        (json!(false), json!("InexistentDestination"))
    );
}

#[test]
fn a_certificate_without_an_end_is_one() {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let found = certificates(&pem).unwrap();
    assert_eq!(found[0].not_after, Timestamp::MAX);
}
