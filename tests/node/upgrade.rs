//! An earlier version is replaced by this one and comes back, and no application notices.

use std::time::Instant;

use anyhow::{Result, ensure};
use ground::shipped::{self, Sources};
use ground::{node, paths};

use crate::site::Site;
use crate::site::installation::{Installation, Overlay};
use crate::tenancy::Tenancy;

crate::trials!["upgrade": to_this_version_and_back_nothing_rotates_and_nothing_restarts];

/// The first version that served static, dynamic and PKI secrets.
const EARLIER: &str = "708a65b965a0c6cb0bca050b10ec538fae84d320";

/// Makes the earlier version's image. What it weighs is not looked at here, so that it is built in a fraction of the time.
pub fn build() -> Result<()> {
    let quick = [
        ("CARGO_PROFILE_DIST_LTO", "off"),
        ("CARGO_PROFILE_DIST_CODEGEN_UNITS", "16"),
        ("CARGO_PROFILE_DIST_OPT_LEVEL", "1"),
    ];
    shipped::build_image(EARLIER, &["--commit", EARLIER], &quick)
}

async fn to_this_version_and_back_nothing_rotates_and_nothing_restarts(site: &Site) -> Result<()> {
    let node: &node::Node = site.node()?;
    node.import(&shipped::image(EARLIER)?).await?;
    let earlier = Sources::of(EARLIER)?.folder;
    let present = paths::repository();
    site.apply_definitions(&earlier).await?;
    let mut installation = Installation::prepare(site, Overlay::Beside, "upgraded").await?;
    installation.take(&earlier, Some(EARLIER))?;
    let mut tenancy = Tenancy::start_in(site, installation).await?;
    for (what, sources, tag) in [
        ("upgraded", &present, None),
        ("downgraded", &earlier, Some(EARLIER)),
        ("upgraded again", &present, None),
    ] {
        site.apply_definitions(sources).await?;
        tenancy.installation.take(sources, tag)?;
        let begun = Instant::now();
        tenancy.installation.apply(site).await?;
        let home = tenancy.installation.home();
        site.kubectl(&[
            "rollout",
            "status",
            "deployment/vault-tenant-operator",
            "--timeout=120s",
            &format!("--namespace={home}"),
        ])
        .await?;
        let pod = site.ready_operator(&home).await?;
        let images: Vec<String> = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .filter_map(|one| one.image.clone())
            .collect();
        let expected = format!("{}:{}", shipped::REPOSITORY, tag.unwrap_or(shipped::TAG));
        ensure!(
            images == [expected.clone()],
            "{images:?} run, not {expected}"
        );
        tenancy.comes_back(what, begun).await?;
    }
    Ok(())
}
