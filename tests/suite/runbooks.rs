//! The commands of docs/runbooks: each says in which namespace it looks, and what stands
//! in it in capitals is explained on its page.

use anyhow::{Result, ensure};

use crate::documents::{files, quoted, repository};

/// Commands that are only named.
const NAMED: [&str; 2] = ["kubectl apply -k", "kubectl vto rbac"];

/// Each command of each page is whole.
pub fn every_command() -> Result<()> {
    let mut pages = Vec::new();
    files(&repository().join("docs/runbooks"), "md", &mut pages)?;
    let mut wrong = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page)?;
        let found = findings(&text);
        ensure!(found.is_some(), "{} has no command", page.display());
        let told = found.into_iter().flatten();
        wrong.extend(told.map(|what| format!("{}: {what}", page.display())));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let bad = "```sh\nkubectl get pods\nkubectl logs deployment/x --namespace=NOWHERE\n```\n`kubectl describe pod x`\n";
    let found = findings(bad).unwrap_or_default();
    ensure!(found.len() == 4, "{found:?}");
    Ok(())
}

/// What is wrong with the commands of a page; `None` where it has none.
fn findings(page: &str) -> Option<Vec<String>> {
    let (mut blocks, mut prose) = (String::new(), String::new());
    for (number, part) in page.split("```").enumerate() {
        let into = match number % 2 {
            0 => &mut prose,
            _ => &mut blocks,
        };
        into.push_str(part);
    }
    let commands = blocks.lines().chain(quoted(&prose));
    let commands: Vec<&str> = commands
        .filter(|line| line.starts_with("kubectl ") && !NAMED.contains(line))
        .collect();
    let mut wrong = Vec::new();
    for command in &commands {
        if !command.contains(" --namespace=") {
            wrong.push(format!("no namespace: {command}"));
        }
        // Of a Deployment it is one pod that is read: perhaps the standby.
        if command.starts_with("kubectl logs ")
            && !(command.contains(" --selector=") && command.contains(" --tail="))
        {
            wrong.push(format!("not the whole log of each instance: {command}"));
        }
        let (asked, _remark) = command.split_once(" #").unwrap_or((command, ""));
        for word in asked.split(|c: char| !c.is_ascii_uppercase()) {
            if word.len() > 2 && !prose.contains(word) {
                wrong.push(format!("{word} is not explained: {command}"));
            }
        }
    }
    (!commands.is_empty()).then_some(wrong)
}
