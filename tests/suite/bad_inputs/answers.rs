//! A server that answers as Vault would not, or as it should not.

use ground::faults::Answer;
use serde_json::{Value, json};

use super::scene::Scene;
use super::{CANARY, Case, Wrong, taken, told};

/// More than any number of the machine's holds.
const DIGITS: &str = "1234567890123456789012345678901234567890";

pub fn cases(scene: &Scene) -> Vec<Case> {
    [reads(scene), logins()].into_iter().flatten().collect()
}

fn reads(scene: &Scene) -> Vec<Case> {
    let body = |body: String| Wrong::Read(Answer::body(200, "application/json", body));
    let data = |data: &str| body(format!(r#"{{"data": {data}}}"#));
    let held = |fields: &str| data(&versioned(fields, "7"));
    let page = |status| Wrong::Read(Answer::body(status, "text/html", page()));
    let error = |status, words: &str| Wrong::Read(Answer::vault_error(status, &[words]));
    let limited = |after| {
        Wrong::Read(Answer::vault_error(429, &["quota exceeded"]).header("Retry-After", after))
    };
    let canary = Value::from(CANARY);
    let fields = format!(r#"{{"password": {canary}}}"#);
    let twice = format!(r#"{{"password": {canary}, "password": "the last"}}"#);
    let deep = format!("{}{canary}{}", "[".repeat(10_000), "]".repeat(10_000));
    let in_plain = versioned(r#"{"password": "of a plain text"}"#, "7");
    let in_plain = Answer::body(200, "text/plain", format!(r#"{{"data": {in_plain}}}"#));
    let found = Answer::status(302).header("Location", &scene.expired.url());
    let own = &scene.tenant.vault_address;
    vec![
        // No answer of Vault's.
        told(
            "page-with-200",
            page(200),
            "VaultClientError",
            &["it is not Vault's JSON", "is it Vault that answers"],
        ),
        told(
            "page-with-404",
            page(404),
            "VaultClientError",
            &["HTTP 404", "is it Vault that answers"],
        ),
        told(
            "page-with-502",
            page(502),
            "VaultUnavailable",
            &["HTTP 502", "who runs Vault"],
        ),
        told(
            "no-http",
            Wrong::Read(Answer::not_http()),
            "VaultUnreachable",
            &["check the address"],
        ),
        told(
            "reset",
            Wrong::Read(Answer::drop_before()),
            "VaultUnreachable",
            &["check the address"],
        ),
        told(
            "cut",
            Wrong::Read(Answer::cut(format!(r#"{{"data": {fields}"#))),
            "VaultUnreachable",
            &["ended in the middle of an answer", "check the address"],
        ),
        told(
            "over-four-mebibytes",
            Wrong::Read(Answer::huge(5)),
            "VaultClientError",
            &["longer than 4 MiB", "smaller secrets"],
        ),
        told(
            "redirect-elsewhere",
            Wrong::Read(Answer::redirect("https://vault.attacker.example")),
            "PolicyDenied",
            &[
                "redirects to https://vault.attacker.example",
                "policy.vaultAddresses",
            ],
        ),
        told(
            "redirect-of-a-page",
            Wrong::Read(found),
            "VaultClientError",
            &["HTTP 302", "give the address that serves Vault's API"],
        ),
        told(
            "redirect-to-nowhere",
            Wrong::Read(Answer::status(307)),
            "VaultClientError",
            &["leads nowhere", "is it Vault that answers"],
        ),
        told(
            "redirect-in-a-circle",
            Wrong::Read(Answer::redirect(own)),
            "VaultClientError",
            &[
                "more than 3 redirects",
                "give the address that serves Vault's API",
            ],
        ),
        // Vault's, but a refusal.
        told(
            "internal-error",
            error(500, "internal error"),
            "VaultUnavailable",
            &["HTTP 500: internal error", "who runs Vault"],
        ),
        told(
            "bad-request",
            error(400, "unsupported"),
            "VaultClientError",
            &["HTTP 400: unsupported", "check spec.mount"],
        ),
        // As the edition with namespaces answers for one that it doesn't have.
        told(
            "namespace-not-there",
            error(404, "no handler for route"),
            "SecretNotFound",
            &["no handler for route", "spec.namespace"],
        ),
        told(
            "limited-for-a-second",
            limited("1"),
            "VaultRateLimited",
            &["asks to wait 1 s", "sync.vaultRequestsPerSecond"],
        ),
        told(
            "limited-for-soon",
            limited("soon"),
            "VaultRateLimited",
            &["limits the rate", "sync.vaultRequestsPerSecond"],
        ),
        told(
            "limited-for-less-than-nothing",
            limited("-99999999999999999999"),
            "VaultRateLimited",
            &["limits the rate", "sync.vaultRequestsPerSecond"],
        ),
        // JSON, but not that of a secret.
        told(
            "body-empty",
            body(String::new()),
            "VaultClientError",
            &["HTTP 200 without data", "does the path hold a secret"],
        ),
        told(
            "body-cut",
            body(format!(r#"{{"data": {{"data": {fields}"#)),
            "VaultClientError",
            &["it is not Vault's JSON", "is it Vault that answers"],
        ),
        told(
            "body-not-utf8",
            not_utf8(),
            "VaultClientError",
            &["it is not Vault's JSON", "is it Vault that answers"],
        ),
        told(
            "body-a-list",
            body(format!("[{}]", versioned(&fields, "7"))),
            "VaultClientError",
            &["it is not Vault's JSON", "is it Vault that answers"],
        ),
        told(
            "body-a-text",
            body(canary.to_string()),
            "VaultClientError",
            &["it is not Vault's JSON", "is it Vault that answers"],
        ),
        told(
            "data-null",
            data("null"),
            "VaultClientError",
            &["HTTP 200 without data", "does the path hold a secret"],
        ),
        told(
            "data-twice",
            body(format!(r#"{{"data": {fields}, "data": {fields}}}"#)),
            "VaultClientError",
            &["it is not Vault's JSON", "is it Vault that answers"],
        ),
        told(
            "data-a-text",
            data(&canary.to_string()),
            "VaultClientError",
            &["not an object of the expected form", "spec.type"],
        ),
        told(
            "data-a-list",
            data(&format!(r#"[{fields}, {{"version": 7}}]"#)),
            "VaultClientError",
            &["not an object of the expected form", "spec.type"],
        ),
        told(
            "fields-a-text",
            held(&canary.to_string()),
            "VaultClientError",
            &["not an object of the expected form", "spec.type"],
        ),
        told(
            "fields-a-list",
            held(&format!("[{canary}]")),
            "VaultClientError",
            &["not an object of the expected form", "spec.type"],
        ),
        told(
            "fields-null",
            held("null"),
            "SecretDeleted",
            &["version 7 holds no data", "write a new version"],
        ),
        told(
            "metadata-left-out",
            data(&format!(r#"{{"data": {fields}}}"#)),
            "VaultClientError",
            &["no version metadata", "spec.type"],
        ),
        told(
            "version-of-forty-digits",
            data(&versioned(&fields, &"7".repeat(40))),
            "VaultClientError",
            &["not an object of the expected form", "spec.type"],
        ),
        told(
            "half-a-character",
            held(r#"{"password": "\ud800"}"#),
            "TransformationError",
            &["password", "correct it in Vault, or exclude it"],
        ),
        told(
            "ten-thousand-levels",
            held(&format!(r#"{{"password": {deep}}}"#)),
            "TransformationError",
            &["password", "deeper than 96 levels", "flatten it in Vault"],
        ),
        taken(
            "number-of-forty-digits",
            held(&format!(r#"{{"number": {DIGITS}, "password": {canary}}}"#)),
            "number",
            DIGITS,
        ),
        taken("key-twice", held(&twice), "password", "the last"),
        taken(
            "content-type-of-text",
            Wrong::Read(in_plain),
            "password",
            "of a plain text",
        ),
    ]
}

fn logins() -> Vec<Case> {
    let auth = |auth: Value| Wrong::Login(Answer::json(200, &json!({ "auth": auth })));
    let error = |status, words: &str| Wrong::Login(Answer::vault_error(status, &[words]));
    let page = Answer::body(200, "text/html", page());
    vec![
        told(
            "login-with-a-page",
            Wrong::Login(page),
            "VaultClientError",
            &["it is not Vault's JSON", "is it Vault that answers"],
        ),
        told(
            "login-without-a-token",
            auth(json!({ "client_token": "" })),
            "VaultClientError",
            &["no token", "is it Vault that answers"],
        ),
        told(
            "login-without-auth",
            auth(Value::Null),
            "VaultClientError",
            &["no token", "is it Vault that answers"],
        ),
        told(
            "login-with-a-token-of-two-lines",
            auth(json!({ "client_token": format!("{CANARY}\n") })),
            "VaultClientError",
            &["no header can carry", "is it Vault that answers"],
        ),
        told(
            "login-that-ended-before",
            auth(json!({ "client_token": CANARY, "lease_duration": -1 })),
            "VaultClientError",
            &["it is not Vault's JSON", "is it Vault that answers"],
        ),
        told(
            "login-refused",
            error(400, "invalid role"),
            "VaultLoginFailed",
            &["HTTP 400: invalid role", "check spec.mount"],
        ),
        told(
            "login-to-no-namespace",
            error(404, "no handler for route"),
            "VaultLoginFailed",
            &["no handler for route", "spec.namespace"],
        ),
        told(
            "login-that-fails",
            error(500, "internal error"),
            "VaultUnavailable",
            &["HTTP 500: internal error", "who runs Vault"],
        ),
    ]
}

fn page() -> String {
    format!("<html><body>{CANARY}</body></html>")
}

/// The `data` of a KV version 2 answer.
fn versioned(fields: &str, version: &str) -> String {
    format!(
        r#"{{"data": {fields}, "metadata": {{"version": {version}, "deletion_time": "", "destroyed": false}}}}"#
    )
}

fn not_utf8() -> Wrong {
    let fields = json!({ "password": CANARY, "other": "" }).to_string();
    let fields = fields.trim_end_matches("\"}");
    let mut body = format!(r#"{{"data": {{"data": {fields}"#).into_bytes();
    body.extend_from_slice(b"\xff\xfe\"}}}");
    Wrong::Read(Answer::body(200, "application/json", body))
}
