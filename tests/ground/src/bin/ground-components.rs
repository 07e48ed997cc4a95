//! Builds the components of the test ground and prints where they are, one `NAME<TAB>PATH` a line.
//!
//! `cargo run -p ground --bin ground-components` ahead of the tests saves the first of them the wait.

fn main() -> anyhow::Result<()> {
    ground::supervisor::dispatch();
    let components = tokio::runtime::Runtime::new()?.block_on(ground::Components::find())?;
    for (name, path) in components.iter() {
        println!("{name}\t{}", path.display());
    }
    Ok(())
}
