//! `kubectl vto status` as a plugin of the real kubectl, by a user who may read the
//! resources and nothing else: what it shows of each kind, and what it tells of what
//! it may not see. (As things change, and on a terminal: `status_watch`.)

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use ground::engines::PkiRole;
use ground::faults::{Match, Pause};
use ground::judges::workloads::Kind;
use ground::{Right, Tenant, wait_for};
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::bearer::{Bearer, KIND as PKI};
use crate::grades::{Grade, Names};
use crate::lessee::{KIND as DYNAMIC, dynamic_secret};
use crate::probes::{api_proxy, workload};
use crate::rbac_files::{PROGRAM, Ran, expect, run};
use crate::support::{LONG, Suite, Team, static_secret};

crate::trials![
    "status_command": each_kind_has_a_row, what_is_wrong_is_told_whatever_a_tenant_writes,
    what_may_not_be_seen_is_told, who_may_list_and_not_watch_is_told_all,
    a_namespace_that_is_not_there_is_told_to_who_may_see_that,
];

/// The kind that these trials mostly look at.
pub const STATIC: &str = "VaultStaticSecret";

/// The kinds that have Secrets written, as rules name them.
pub const KINDS: [&str; 3] = [
    "vaultstaticsecrets",
    "vaultdynamicsecrets",
    "vaultpkisecrets",
];

/// Who may read resources of these kinds in a tenant's namespace, and nothing else.
pub struct Reader {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Reader {
    pub async fn of(suite: &Suite, tenant: &Tenant, kinds: &[&str]) -> Result<Self> {
        Self::with(suite, tenant, kinds, &["get", "list", "watch"], None).await
    }

    /// The same with these verbs alone, perhaps by another address of the API server.
    async fn with(
        suite: &Suite,
        tenant: &Tenant,
        kinds: &[&str],
        verbs: &[&str],
        server: Option<&str>,
    ) -> Result<Self> {
        let name = "reader";
        for object in [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": name },
                "rules": [{
                    "apiGroups": ["secrets.hashicorp.com"], "resources": kinds, "verbs": verbs,
                }],
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": name },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": tenant.namespace }],
            }),
        ] {
            tenant.apply(&object.to_string()).await?;
        }
        let reader = Self {
            kubectl: suite.ground.components().path("kubectl")?.to_owned(),
            kubeconfig: tenant.kubeconfig(name, name, server).await?,
            home: suite.ground.dir().to_owned(),
        };
        wait_for("the reader's rights", LONG, || async {
            let ran = reader.status(&[]).await?;
            ensure!(!ran.err.contains(kinds[0]), "{ran:?}");
            Ok(())
        })
        .await?;
        Ok(reader)
    }

    /// The command with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let folder = Path::new(PROGRAM).parent().context("no folder")?;
        let mut command = Command::new(&self.kubectl);
        command
            .args(["vto", "status"])
            .args(arguments)
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", folder)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", &self.home)
            .env("TERM", "xterm");
        Ok(command)
    }

    /// Runs it to its end.
    async fn status(&self, arguments: &[&str]) -> Result<Ran> {
        to_its_end(self.command(arguments)?).await
    }
}

/// Runs a command to its end.
pub async fn to_its_end(command: Command) -> Result<Ran> {
    tokio::task::spawn_blocking(move || run(command, "")).await?
}

/// The line of a table that is about this resource.
fn row<'a>(table: &'a str, name: &str) -> Result<&'a str> {
    let mut lines = table.lines();
    let found = lines.find(|line| line.split_whitespace().next() == Some(name));
    found.with_context(|| format!("no {name} in {table}"))
}

/// Nothing in it moves a cursor or turns text around.
pub fn ensure_plain(ran: &Ran) -> Result<()> {
    let odd = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    ensure!(!ran.out.contains(odd) && !ran.err.contains(odd), "{ran:?}");
    Ok(())
}

async fn each_kind_has_a_row(suite: &Suite) -> Result<()> {
    let role = PkiRole::default();
    let bearer = Bearer::start(suite, Grade::Namespace, "status", Names::APP, &role).await?;
    let (team, tenant) = (&bearer.team, &bearer.team.tenant);
    let leases = PkiRole {
        generate_lease: true,
        ..PkiRole::default()
    };
    let leased = bearer.engine.role("leased", &leases).await?;
    let paths = [bearer.issue.as_str(), &leased];
    tenant.grant(&paths, &Right::ALL).await?;
    let reader = Reader::of(suite, tenant, &KINDS).await?;
    let ran = reader.status(&[]).await?;
    let nothing = format!("No resources found in {} namespace.\n", tenant.namespace);
    ensure!(
        ran.code == 0 && ran.out.is_empty() && ran.err == nothing,
        "{ran:?}"
    );

    team.put("app", json!({ "password": "sesame" })).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    tenant.apply(&web.to_string()).await?;
    let target = json!([{ "kind": "Deployment", "name": "web" }]);
    let spec = json!({ "refreshAfter": "1h", "rolloutRestartTargets": target });
    team.static_secret("app", spec).await?;
    let credentials = json!({
        "mount": bearer.engine.mount, "path": "issue/leased", "params": { "common_name": "web.test" },
    });
    let credentials = dynamic_secret(tenant, "leased", credentials);
    tenant.apply(&credentials.to_string()).await?;
    bearer.ask("web", json!({ "ttl": "1h" })).await?;
    let all = [(STATIC, "app"), (DYNAMIC, "leased"), (PKI, "web")];
    for (kind, name) in all {
        team.wait_condition(kind, name, "Ready", "True").await?;
    }
    team.wait_current("app").await?;
    let ran = reader.status(&[]).await?;
    ensure!(ran.code == 0 && ran.err.is_empty(), "{ran:?}");
    ensure_plain(&ran)?;
    ensure!(ran.out.lines().count() == 4, "{ran:?}");
    let kv = format!("{}/app", tenant.kv2);
    for (name, source, ends, rollout) in [
        ("vss/app", kv.as_str(), false, "Current"),
        ("vds/leased", &leased, true, "-"),
        ("vps/web", &bearer.issue, true, "-"),
    ] {
        let line = row(&ran.out, name)?;
        let cells = line.split("   ").map(str::trim);
        let cells: Vec<&str> = cells.filter(|cell| !cell.is_empty()).collect();
        let [_, state, told, _, next, expiry, survives, rolled] = cells[..] else {
            bail!("{line:?} has other cells");
        };
        ensure!(
            state == "Ready" && told == source && rolled == rollout,
            "{line}"
        );
        ensure!(next.starts_with("in "), "{line}");
        let fits = |cell: &str| cell.starts_with("in ") == ends && (cell == "-") != ends;
        ensure!(fits(expiry) && fits(survives), "{line}");
    }
    wait_for("JSON to say what status says", LONG, || async {
        let ran = reader.status(&["-o", "json"]).await?;
        ensure!(ran.code == 0 && ran.err.is_empty(), "{ran:?}");
        let told: Value = serde_json::from_str(&ran.out)?;
        let of = (&told["namespace"], &told["ready"]);
        ensure!(of == (&json!(tenant.namespace), &json!(true)), "{told}");
        let secrets = told["secrets"].as_array().context("no secrets")?;
        ensure!(secrets.len() == all.len(), "{told}");
        for (secret, (kind, name)) in secrets.iter().zip(all) {
            ensure!(secret["kind"] == kind && secret["name"] == name, "{told}");
            ensure!(secret["state"] == "Ready", "{told}");
            let status = team.status(kind, name).await?;
            let same = |ours: &str, theirs: &str| secret[ours] == status[theirs];
            ensure!(
                same("expiry", "expiry")
                    && same("survivesUntil", "survivesUntil")
                    && (kind == STATIC || same("nextDue", "nextRenewal")),
                "{secret}, {status}"
            );
        }
        Ok(())
    })
    .await
}

async fn what_is_wrong_is_told_whatever_a_tenant_writes(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "status-odd").await?;
    let reader = Reader::of(suite, &team.tenant, &KINDS).await?;
    let odd = json!({ "mount": "kv\u{1b}[2J\u{202e}", "path": "a\r\nb\u{9b}31m" });
    let odd = serde_json::from_value(static_secret(&team.tenant, "odd", odd))?;
    // Not as YAML, which has no such characters.
    team.resources(STATIC)
        .create(&PostParams::default(), &odd)
        .await?;
    let condition = team.wait_condition(STATIC, "odd", "Ready", "False").await?;
    for arguments in [["-o", "wide"], ["-o", "json"]] {
        let ran = reader.status(&arguments).await?;
        expect(&ran, 1, &["NotReady", &condition.reason, "kv [2J /a b 31m"])?;
        ensure_plain(&ran)?;
    }
    let ran = reader.status(&["-o", "wide"]).await?;
    let line = row(&ran.out, "vss/odd")?;
    let state = format!("NotReady ({})", condition.reason);
    ensure!(
        line.contains(&state) && line.ends_with(&condition.message),
        "{line}, {condition:?}"
    );
    Ok(())
}

async fn what_may_not_be_seen_is_told(suite: &Suite) -> Result<()> {
    // No operator: nobody says anything of the resource.
    let tenant = suite.ground.tenant("status-blind").await?;
    let manifest = static_secret(&tenant, "app", json!({}));
    tenant.apply(&manifest.to_string()).await?;
    let reader = Reader::of(suite, &tenant, &KINDS[..2]).await?;
    let namespace = tenant.namespace.as_str();
    let refused = format!("vaultpkisecrets in {namespace} cannot be listed: ");
    let mend = "; ask for get, list and watch of vaultpkisecrets.secrets.hashicorp.com\n";
    let ran = reader.status(&[]).await?;
    expect(&ran, 1, &[&refused, mend, "Pending"])?;
    ensure!(
        ran.err.lines().count() == 1 && ran.out.lines().count() == 2,
        "{ran:?}"
    );
    let ran = reader.status(&["--output=json"]).await?;
    let told: Value = serde_json::from_str(&ran.out)?;
    ensure!(ran.code == 1 && told["ready"] == false, "{ran:?}");

    // Nothing at all can be told.
    let ran = reader.status(&["-A"]).await?;
    ensure!(
        ran.out.is_empty() && ran.err.lines().count() == 3,
        "{ran:?}"
    );
    expect(
        &ran,
        2,
        &[
            "in all namespaces cannot be listed",
            "or name one with --namespace",
        ],
    )?;
    let ran = reader.status(&["--context=nobodys"]).await?;
    expect(
        &ran,
        2,
        &["no way to the cluster: ", "nobodys", "--context"],
    )?;
    let ran = reader.status(&["-n", "a/b"]).await?;
    expect(&ran, 2, &["\"a/b\" is no name of a namespace"])?;

    // All namespaces, by somebody who may, named by a flag.
    let admin = suite.ground.plane.kubeconfig.display().to_string();
    let ran = reader.status(&["-A", "--kubeconfig", &admin]).await?;
    expect(&ran, 1, &["NAMESPACE   "])?;
    ensure!(
        ran.out
            .lines()
            .any(|line| line.split_whitespace().take(2).eq([namespace, "vss/app"])),
        "{ran:?}"
    );
    Ok(())
}

async fn who_may_list_and_not_watch_is_told_all(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("status-list").await?;
    let proxy = api_proxy(&suite.ground).await?;
    let reader = Reader::with(suite, &tenant, &KINDS, &["list"], Some(&proxy.url())).await?;
    let manifest = static_secret(&tenant, "app", json!({}));
    tenant.apply(&manifest.to_string()).await?;
    // Two kinds have long been listed when the third one is.
    let list = |kind: &str| Match::method("GET").path_contains(kind);
    let mut last = Pause::at_request(&proxy, list(KINDS[2]));
    let counts = KINDS.map(|kind| proxy.count(&list(kind)));
    let ran = tokio::spawn(to_its_end(reader.command(&[])?));
    last.reached(LONG).await?;
    for (kind, count) in KINDS.into_iter().zip(counts).take(2) {
        proxy.wait_for_end(&list(kind), count + 1, LONG).await?;
    }
    last.go();
    let ran = ran.await??;
    // The resource is not ready, and that is all there is to tell.
    expect(&ran, 1, &["vss/app ", "Pending"])?;
    ensure!(ran.err.is_empty(), "{ran:?}");
    let watches = proxy.requests(&Match::any().query_contains("watch="));
    ensure!(watches.is_empty(), "{watches:?}");
    Ok(())
}

async fn a_namespace_that_is_not_there_is_told_to_who_may_see_that(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("status-typo").await?;
    let reader = Reader::of(suite, &tenant, &KINDS).await?;
    let admin = &suite.ground.plane.kubeconfig;
    let path = admin.display().to_string();
    for arguments in [&["-n", "nobodys"][..], &["-n", "nobodys", "-o", "json"]] {
        let arguments = [arguments, &["--kubeconfig", &path]].concat();
        let ran = reader.status(&arguments).await?;
        ensure!(
            ran.code == 2
                && ran.out.is_empty()
                && ran.err == "the namespace nobodys does not exist: correct --namespace\n",
            "{ran:?}"
        );
    }
    // The same of a context.
    let mut config: Value = serde_yaml::from_str(&std::fs::read_to_string(admin)?)?;
    config["contexts"][0]["context"]["namespace"] = json!("nobodys");
    let elsewhere = tenant.dir.join("elsewhere.kubeconfig");
    std::fs::write(&elsewhere, serde_yaml::to_string(&config)?)?;
    let elsewhere = elsewhere.display().to_string();
    let ran = reader.status(&["--kubeconfig", &elsewhere]).await?;
    let sentence = "the namespace nobodys does not exist: it is that of the context, give another";
    expect(&ran, 2, &[sentence])?;
    // One that is there is empty, for whoever may see that and for whoever may not.
    let namespace = tenant.namespace.as_str();
    let nothing = format!("No resources found in {namespace} namespace.\n");
    for more in [&["--kubeconfig", &path][..], &[]] {
        let ran = reader.status(&[&["-n", namespace], more].concat()).await?;
        ensure!(ran.code == 0 && ran.err == nothing, "{ran:?}");
    }
    // Who may see neither is refused, and guesses nothing.
    let ran = reader.status(&["-n", "nobodys"]).await?;
    expect(&ran, 2, &["in nobodys cannot be listed: "])?;
    ensure!(!ran.err.contains("does not exist"), "{ran:?}");
    Ok(())
}
