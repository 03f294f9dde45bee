//! The report's opening: what was run, how to run it again, how to read what follows.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    figures::{Spread, number},
    markdown::{Table, escaped, plural},
    results::Results,
    targets::Tally,
};

/// How the generator is called from the root of the repository.
const PROGRAM: &str = "cargo run --release -p tickwire-perf --";

/// The opening sections. `folder` is where the results lie, for a reader of the repository.
pub fn sections(results: &Results, folder: &str, tally: Tally, text: &mut String) {
    let _ = write!(
        text,
        "# tickwire, measured\n\n\
         Written by `tickwire-perf report` from the files in `{folder}`; no figure is typed by \
         hand. Of the [targets](#targets), {} are met, {} are missed, and {} were not measured.\n\n",
        tally.met, tally.missed, tally.not_measured
    );
    what_was_run(results, text);
    servers(results, text);
    again(results, folder, text);
    text.push_str(HOW_TO_READ);
}

fn what_was_run(results: &Results, text: &mut String) {
    text.push_str("## What was run\n\n");
    let facts = |value: fn(&crate::host::Facts) -> String| {
        let values: BTreeSet<String> = results.runs.iter().map(|run| value(&run.host)).collect();
        values.into_iter().collect::<Vec<_>>().join("; ")
    };
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "- {name}: {value}");
        }
    };
    line("date", &dates(results));
    line("processor", &facts(|host| host.cpu.clone()));
    line("cores", &facts(|host| host.cores.to_string()));
    line(
        "memory",
        &facts(|host| format!("{} MiB", number(host.memory_mib as f64))),
    );
    line("kernel", &facts(|host| format!("Linux {}", host.kernel)));
    for (layout, who) in layouts(results) {
        line(&format!("layout of {who}"), &layout);
    }
    let common = common_versions(results).into_iter();
    line("in all runs", &common.collect::<Vec<_>>().join(", "));
    line("runs", &counts(results));
    line("noise", &noise(results));
    text.push('\n');
    let hosts: BTreeSet<String> = results
        .runs
        .iter()
        .map(|run| format!("{:?}", run.host))
        .collect();
    if hosts.len() > 1 {
        text.push_str("**These runs are from more than one machine: do not compare them.**\n\n");
    }
    for (file, reason) in &results.unreadable {
        let _ = writeln!(text, "**`{file}` cannot be read:** {}\n", escaped(reason));
    }
}

fn dates(results: &Results) -> String {
    let date = |unix_s: u64| {
        let time = UNIX_EPOCH + Duration::from_secs(unix_s);
        humantime::format_rfc3339_seconds(time).to_string()
    };
    let times = || results.runs.iter().map(|run| run.unix_s);
    match (times().min(), times().max()) {
        (Some(first), Some(last)) if first != last => format!("{} to {}", date(first), date(last)),
        (Some(first), _) => date(first),
        _ => String::new(),
    }
}

/// Layouts, and who had them: the most common one first, the others with names.
fn layouts(results: &Results) -> Vec<(String, String)> {
    let mut servers_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for run in results.runs.iter().filter(|run| !run.layout.is_empty()) {
        servers_of
            .entry(&run.layout)
            .or_default()
            .insert(&run.server);
    }
    let mut layouts: Vec<_> = servers_of.into_iter().collect();
    layouts.sort_by_key(|(_, servers)| Reverse(servers.len()));
    let named = |servers: BTreeSet<&str>| {
        let names: Vec<String> = servers.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    };
    let who = |(index, (layout, servers)): (usize, (&str, BTreeSet<&str>))| {
        let who = match index {
            0 => "all but those named next".to_owned(),
            _ => named(servers),
        };
        (layout.to_owned(), who)
    };
    let alone = layouts.len() == 1;
    let mut layouts: Vec<_> = layouts.into_iter().enumerate().map(who).collect();
    if alone {
        "all".clone_into(&mut layouts[0].1);
    }
    layouts
}

fn counts(results: &Results) -> String {
    let runs = results.runs.len();
    let rounds = results
        .runs
        .iter()
        .map(|run| run.round)
        .max()
        .unwrap_or_default();
    let faulty = results
        .runs
        .iter()
        .filter(|run| !run.faults.is_empty())
        .count();
    format!(
        "{runs}, of {} in {}, up to {}; {faulty} with faults",
        plural(results.servers().len(), "server"),
        plural(results.scenarios().len(), "scenario"),
        plural(rounds as usize, "round"),
    )
}

/// Cores that neither side of a run kept busy.
fn noise(results: &Results) -> String {
    let points = results.runs.iter().flat_map(|run| &run.points);
    let Some(busy) = Spread::of(points.filter_map(|point| point.others_busy)) else {
        return String::new();
    };
    let percent = |cores: f64| format!("{:.0} %", cores * 100.0);
    format!(
        "others kept {} of a core busy in the median point, {} at worst",
        percent(busy.median),
        percent(busy.max)
    )
}

/// Every server with what took part in its runs, but for what took part in all.
fn servers(results: &Results, text: &mut String) {
    let common = common_versions(results);
    let mut table = Table::text(["server", "name in results", "versions"]);
    for server in results.servers() {
        let runs = results.runs.iter().filter(|run| run.server == server.name);
        let versions = runs.flat_map(|run| &run.versions).map(String::as_str);
        let versions: BTreeSet<&str> = versions.filter(|&one| !common.contains(one)).collect();
        let versions = versions.into_iter().collect::<Vec<_>>().join(", ");
        table.row([server.cell(), format!("`{}`", server.name), versions]);
    }
    let _ = writeln!(text, "{table}");
}

fn common_versions(results: &Results) -> BTreeSet<&str> {
    let mut sets = results
        .runs
        .iter()
        .map(|run| -> BTreeSet<&str> { run.versions.iter().map(String::as_str).collect() });
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |common, set| &common & &set)
}

fn again(results: &Results, folder: &str, text: &mut String) {
    // In the order in which they were given, and what was given again only once.
    let mut runs: Vec<_> = results.runs.iter().collect();
    runs.sort_by_key(|run| (run.unix_s, &run.command));
    let mut commands: Vec<String> = Vec::new();
    for run in runs {
        let command = command_line(&run.command);
        if !command.is_empty() && !commands.contains(&command) {
            commands.push(command);
        }
    }
    let _ = write!(
        text,
        "### Again\n\n\
         From the root of the repository. The peers come from the ordinary registries; what was \
         interrupted goes on where it stopped. The last line writes this report alone.\n\n\
         ```sh\n{}\n{PROGRAM} report --from {}\n```\n\n",
        commands.join("\n"),
        quoted(folder)
    );
}

/// As a shell takes it. The program's own path is nobody else's.
fn command_line(command: &[String]) -> String {
    let Some((_, args)) = command.split_first() else {
        return String::new();
    };
    let args: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
    format!("{PROGRAM} {}", args.join(" "))
}

fn quoted(arg: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./:,+@%".contains(&byte);
    if !arg.is_empty() && arg.bytes().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}

const HOW_TO_READ: &str = "\
### How to read it

- A figure is the median over the rounds, with the smallest and the largest in brackets. In a round
  every server is run once, one after the other, fresh each time.
- A ratio is formed within each round; shown are the median of these ratios, and their extremes.
  Below 1 the server needs less than what it is compared with.
- *CPU µs/tick* is the CPU time of the server's processes per tick delivered to a subscriber.
- *Latency* counts from the time at which a tick was to be published to the generator's read of it,
  so that a publisher held up hides nothing.
- *Bytes/tick* are what a subscriber receives, with all framing above TCP.
- *Bytes per connection* are growth of resident memory: *idle* before the first tick, *busy* after
  the last. Socket buffers belong to the kernel and are not in it.
- *Delivered* counts over all rounds. *Faults* are whatever spoils a run; its figures are
  shown all the same, and what was wrong is listed below the table.
- Names in italics are bare programs that send the same bytes to the same sockets and do nothing
  else: the kernel's limit, not servers.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted() {
        let command = ["/x/y/tickwire-perf", "compare", "--only", "a b", "it's"].map(String::from);
        assert_eq!(
            command_line(&command),
            format!(r"{PROGRAM} compare --only 'a b' 'it'\''s'")
        );
        assert_eq!(command_line(&[]), "");
    }
}
