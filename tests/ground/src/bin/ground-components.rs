//! Builds the components of the test ground and prints where they are, one `NAME<TAB>PATH` a line.
//!
//! `cargo run -p ground --bin ground-components` ahead of the tests saves the first of them the wait.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let components = ground::Components::find().await?;
    for (name, path) in components.iter() {
        println!("{name}\t{}", path.display());
    }
    Ok(())
}
