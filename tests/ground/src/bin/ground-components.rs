//! Builds the components of the test ground and prints where they are, one `NAME<TAB>PATH` a line.
//!
//! `cargo run -p ground --bin ground-components` ahead of the tests saves the first of them the wait; with `real` behind
//! it, those of a real node, too.

use ground::NodeKind;

fn main() -> anyhow::Result<()> {
    ground::supervisor::dispatch();
    let node = match std::env::args().nth(1).as_deref() {
        Some("real") => NodeKind::Real,
        _ => NodeKind::Fake,
    };
    let components = tokio::runtime::Runtime::new()?.block_on(ground::Components::find(node))?;
    for (name, path) in components.iter() {
        println!("{name}\t{}", path.display());
    }
    Ok(())
}
