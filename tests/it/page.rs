//! The report in a real browser, of a real run: on a desk, on a phone, on paper, by keyboard and read aloud.

use std::{path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    lab::{Lab, wait_until},
    stack,
};

/// Everything that is wrong with the marks of a page, as sentences.
const FAULTS: &str = r##"(() => {
  const faults = [], all = what => [...document.querySelectorAll(what)];
  const text = node => node.textContent.trim().slice(0, 40);
  const only = (what, count) => { const found = all(what).length; if (found !== count) faults.push(`${found} of ${what}`); };
  only('html[lang=en]', 1); only('h1', 1); only('main', 1); only('body > header', 1); only('body > footer', 1); only('title', 1 + all('svg title').length);
  let level = 1;
  for (const head of all('h1, h2, h3, h4')) {
    const next = Number(head.tagName[1]);
    if (next > level + 1) faults.push(`${head.tagName} after H${level}: ${text(head)}`);
    if (!text(head)) faults.push('a heading without words');
    level = next;
  }
  for (const table of all('table')) {
    if (!table.caption || !text(table.caption)) faults.push(`a table without caption: ${text(table)}`);
    for (const row of table.rows) if (!row.querySelector('th')) faults.push(`a row without head: ${text(row)}`);
  }
  for (const head of all('th')) if (!['row', 'col', 'rowgroup', 'colgroup'].includes(head.scope)) faults.push(`a head of nothing: ${text(head)}`);
  for (const svg of all('svg')) {
    if (svg.getAttribute('role') !== 'img' || !svg.querySelector(':scope > title')) faults.push('a picture without words');
    if (!svg.closest('figure').querySelector('details table')) faults.push(`no table beside ${text(svg)}`);
    if (!svg.querySelector('.hit title')) faults.push(`nothing to hover over in ${text(svg)}`);
  }
  for (const box of all('.scroll')) if (!box.getAttribute('aria-label') || box.tabIndex !== 0) faults.push('a box that the keyboard cannot scroll');
  const ids = all('[id]').map(node => node.id);
  if (new Set(ids).size !== ids.length) faults.push(`ids that are not unique: ${ids}`);
  for (const link of all('a[href^="#"]')) if (!document.getElementById(link.getAttribute('href').slice(1))) faults.push(`a link to nowhere: ${text(link)}`);
  return faults;
})()"##;

/// What is wider than the window with all that can be unfolded, and in no box that scrolls.
const TOO_WIDE: &str = r"(() => {
  const closed = [...document.querySelectorAll('details:not([open])')];
  closed.forEach(details => details.open = true);
  const wide = [...document.querySelectorAll('body *')].filter(node => !node.closest('.scroll, pre, caption, .skip') && node.getBoundingClientRect().right > innerWidth + 0.5);
  const found = wide.map(node => `${node.tagName}.${node.className}: ${node.textContent.trim().slice(0, 60)}`);
  if (document.documentElement.scrollWidth > innerWidth) found.push(`the page: ${document.documentElement.scrollWidth}`);
  closed.forEach(details => details.open = false);
  return found;
})()";

/// Contrast of every kind of text to what is behind it, at the least.
const CONTRAST: &str = r"(() => {
  const light = color => color.match(/[\d.]+/g).slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = node => { for (; node; node = node.parentElement) { const color = getComputedStyle(node).backgroundColor; if (!/, 0\)$/.test(color)) return color; } return 'rgb(255, 255, 255)'; };
  const worst = [...document.querySelectorAll('h1, h2, h3, p, li, td, th, .soft, .word, .banner strong, .card b, a, figcaption, summary, pre')].map(node => {
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
    return [(a + 0.05) / (b + 0.05), node.tagName + '.' + node.className];
  }).sort((a, b) => a[0] - b[0])[0];
  return worst;
})()";

/// Checks what holds for every page of ours.
pub(crate) fn check(browser: &mut Browser, name: &str) {
    assert_eq!(browser.look(FAULTS), json!([]), "{name}");
    for (width, height) in [(1280, 900), (390, 844)] {
        browser.size(width, height);
        assert_eq!(browser.look(TOO_WIDE), json!([]), "{name} at {width}");
        if let Some(folder) = option_env!("AIF_PICTURES") {
            browser.picture(&Path::new(folder).join(format!("{name}-{width}.png")));
        }
    }
    for scheme in ["light", "dark"] {
        browser.media("screen", scheme);
        let worst = browser.look(CONTRAST);
        let ratio = worst[0].as_f64().expect("a ratio");
        assert!(ratio >= 4.5, "{name}, {scheme}: contrast of {worst}");
    }
    let pictures = browser.aloud().into_iter();
    let pictures = pictures.filter(|(role, _)| role == "image");
    for (_, spoken) in pictures {
        assert!(
            !spoken.is_empty(),
            "{name}: a picture that is not read aloud"
        );
    }
    browser.media("screen", "light");
    browser.size(1280, 900);
}

/// Text of everything that this finds.
fn texts(browser: &mut Browser, what: &str) -> Vec<String> {
    let expression =
        format!("[...document.querySelectorAll({what:?})].map(node => node.textContent.trim())");
    serde_json::from_value(browser.look(&expression)).expect("texts")
}

#[test]
fn the_report_of_a_real_run_is_read_on_a_desk_a_phone_and_paper() {
    let lab = Lab::new();
    stack::recipes(
        &lab,
        &stack::QUICK,
        "pattern: closed-loop, concurrent_users: 2, duration_seconds: 8, warmup_seconds: 1",
    );
    lab.run(&stack::WHOLE).assert_exit(0);
    let kept = lab.json("metrics/series.json");
    assert_eq!(kept["problem"], Value::Null);
    let mut browser = Browser::start();
    // what is drawn of the node, as far as it is measured everywhere
    let charts = kept["charts"].as_array().expect("charts");
    let titles: Vec<&str> = charts
        .iter()
        .filter_map(|chart| chart["title"].as_str())
        .collect();
    for title in ["CPU", "Memory", "Network of the node"] {
        assert!(titles.contains(&title), "{titles:?}");
    }
    let page = lab.run_folder().join("report.html");
    browser.open(&format!("file://{}", page.display()));
    check(&mut browser, "report");
    assert_eq!(
        browser.asked.len(),
        1,
        "it asks for nothing: {:?}",
        browser.asked
    );

    // verdict and numbers are seen without scrolling, also on a phone
    browser.size(390, 844);
    let top = |browser: &mut Browser, what: &str| {
        let place = format!("document.querySelector({what:?}).getBoundingClientRect().bottom");
        browser.look(&place).as_f64().expect("a place")
    };
    assert!(top(&mut browser, ".banner") < 300.0);
    assert!(top(&mut browser, ".card") < 844.0);
    browser.size(1280, 900);
    let cards = texts(&mut browser, ".card");
    assert!(
        cards
            .iter()
            .any(|card| card.starts_with("time to first token") && card.contains("ms p50")),
        "{cards:?}"
    );

    let charts = texts(&mut browser, "figcaption strong");
    for wanted in [
        "Distribution of latencies",
        "Time to first token",
        "Time between tokens",
        "Throughput",
        "In flight and errors",
        "Requests in the engine",
        "CPU",
        "Memory",
        "Requests of the load",
        "Latencies of the load",
    ] {
        assert!(
            charts.iter().any(|chart| chart == wanted),
            "no chart {wanted}: {charts:?}"
        );
    }
    // the same axis, so that a moment stands above itself
    let ends = "[...document.querySelectorAll('main > section:first-of-type figure')].filter(f => f.querySelector('figcaption').textContent.includes('over time')).map(f => [...f.querySelectorAll('svg .tick[text-anchor=middle]')].pop().textContent + '@' + [...f.querySelectorAll('svg .tick[text-anchor=middle]')].pop().getAttribute('x'))";
    let ends: Vec<String> = serde_json::from_value(browser.look(ends)).expect("ends");
    assert!(
        ends.len() >= 6 && ends.iter().all(|end| *end == ends[0]),
        "{ends:?}"
    );

    check_keyboard(&mut browser);

    browser.media("print", "dark");
    let paper = browser.look("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.scroll')).overflowX, document.querySelector('.skip').checkVisibility()]");
    assert_eq!(paper, json!(["rgb(255, 255, 255)", "visible", false]));
}

/// The keyboard comes by everything, first of all by a way past what is above.
pub(crate) fn check_keyboard(browser: &mut Browser) {
    let wanted = browser.look("[...document.querySelectorAll('a[href], summary, .scroll')].filter(node => node.checkVisibility()).length");
    browser.look("getSelection().removeAllRanges(), document.body.focus(), window.met = new Set()");
    let wanted = wanted.as_u64().expect("a count");
    for press in 0..wanted {
        browser.tab();
        let here = browser.look("(met.add(document.activeElement), document.activeElement.className + ' ' + document.activeElement.textContent.slice(0, 30))");
        assert!(
            press > 0 || here.as_str().expect("a text").starts_with("skip"),
            "first: {here}"
        );
    }
    assert_eq!(
        browser.look("met.size"),
        json!(wanted),
        "what the keyboard reaches"
    );
}

/// What `aif status` says of the page of the monitor that runs.
fn page_of(lab: &Lab) -> Option<Value> {
    let said = lab.run(&["status", "--json"]).stdout;
    let status: Value = serde_json::from_str(&said).expect("JSON");
    let instances = status["instances"].as_array().expect("instances");
    let pages = instances.iter().map(|one| &one["page"]);
    pages.into_iter().find(|page| page.is_object()).cloned()
}

/// Status of an answer, and its head, asked without a browser.
fn asked(url: &str, more: &[&str]) -> String {
    let told = std::process::Command::new("curl")
        .args(["-s", "-i", "--max-time", "10", url])
        .args(more)
        .output()
        .expect("curl");
    String::from_utf8_lossy(&told.stdout).into_owned()
}

#[test]
fn the_page_of_a_run_that_goes_on_is_its_report_and_renews_itself() {
    let lab = Lab::new();
    stack::recipes(
        &lab,
        &stack::QUICK,
        "pattern: closed-loop, concurrent_users: 2, duration_seconds: 60, warmup_seconds: 1",
    );
    lab.file(
        "monitor.yaml",
        "name: toy-monitor\nservice_name: toy\nprometheus: {scrape_interval: 1s}\nalerts: {rules: [{alert: Busy, expr: 'sum(aif_bench_requests_in_flight) > 0', for: 1s, summary: somebody asks}]}\n",
    );
    let stack = lab.start(&stack::WHOLE);
    // the bench keeps what it has after ten seconds
    wait_until(Duration::from_secs(40), "a checkpoint", || {
        let runs = std::fs::read_dir(lab.path().join("results"));
        let runs = runs.into_iter().flatten().flatten();
        runs.into_iter()
            .any(|run| run.path().join("bench/toy-test/results.json").exists())
    });
    let page = page_of(&lab).expect("a page");
    let url = page["url"].as_str().expect("a URL");
    let file = page["password_file"].as_str().expect("a file");
    let password = std::fs::read_to_string(file).expect("a password");
    let password = password.trim();
    let status = lab.run(&["status"]).stdout;
    assert!(
        status.contains("ssh -N -L ") && status.contains(file),
        "{status}"
    );
    assert!(!status.contains(password), "the password is not told");

    // who has no password sees nothing; the agents' own key is no password
    let scrape = std::fs::read_to_string(lab.path().join(".ubenchai/discover/scrape.key"));
    let bearer = format!("Authorization: Bearer {}", scrape.expect("a key").trim());
    for wrong in [&[][..], &["-u", "aif:wrong"], &["-H", &bearer]] {
        let told = asked(url, wrong);
        assert!(
            told.starts_with("HTTP/1.1 401")
                && told.to_lowercase().contains("www-authenticate: basic"),
            "{told}"
        );
        assert!(!told.contains("toy"), "{told}");
    }
    let told = asked(
        &format!("{url}metrics"),
        &["-u", &format!("aif:{password}")],
    );
    assert!(
        told.starts_with("HTTP/1.1 401"),
        "metrics have their own key: {told}"
    );
    let told = asked(url, &["-u", &format!("aif:{password}")]);
    assert!(
        told.starts_with("HTTP/1.1 200") && told.contains("default-src 'none'"),
        "{told}"
    );

    let mut browser = Browser::start();
    browser.log_in("aif", password);
    browser.open(url);
    check(&mut browser, "live");
    assert_eq!(texts(&mut browser, ".banner strong"), ["running"]);
    let now = texts(&mut browser, "main > section:first-of-type").remove(0);
    for wanted in [
        "Busy (warning)",
        "somebody asks",
        "Load of toy-test",
        "answered",
        "toy-server",
        "toy-monitor",
    ] {
        assert!(now.contains(wanted), "{wanted} is not in {now}");
    }
    let share = browser.look("document.querySelector('progress').value");
    let share = share.as_f64().expect("a share");
    assert!(share > 0.05 && share < 1.0, "{share}");
    let bench = texts(&mut browser, "main > section:nth-of-type(2)").remove(0);
    assert!(
        bench.contains("so far") && bench.contains("time to first token"),
        "{bench}"
    );
    let charts = texts(&mut browser, "figcaption strong");
    for wanted in [
        "Time to first token",
        "Requests in the engine",
        "Memory",
        "Requests of the load",
    ] {
        assert!(
            charts.iter().any(|chart| chart == wanted),
            "no chart {wanted}: {charts:?}"
        );
    }

    // what one has unfolded, where one is, and how far one has read stay as they are
    browser.size(390, 844);
    let moment = browser.look("document.querySelector('#moment').textContent");
    browser.look("(() => { const one = document.querySelectorAll('figure details')[2]; one.open = true; one.querySelector('summary').focus(); window.scrollTo(0, 900); document.querySelectorAll('figure .scroll')[1].scrollLeft = 77; })()");
    let state = "JSON.stringify([[...document.querySelectorAll('figure details')].findIndex(one => one.open), document.activeElement.textContent, window.scrollY, document.querySelectorAll('figure .scroll')[1].scrollLeft])";
    let before = browser.look(state);
    wait_until(Duration::from_secs(20), "the page is renewed", || {
        browser.look("document.querySelector('#moment').textContent") != moment
    });
    assert_eq!(browser.look(state), before);
    assert_eq!(browser.look(FAULTS), json!([]));
    assert!(
        browser.asked.iter().all(|asked| asked == url),
        "{:?}",
        browser.asked
    );

    stack.signal(Signal::SIGTERM);
    stack.end().assert_exit(143);
    // also in a hurry: what the charts show is kept
    assert_eq!(lab.json("metrics/series.json")["problem"], Value::Null);
    let report = std::fs::read_to_string(lab.run_folder().join("report.html")).expect("a report");
    assert!(report.contains("Engine and node at the same time") && !report.contains("<script"));
    wait_until(Duration::from_secs(20), "its end is told", || {
        let standing = browser.look("document.querySelector('#standing').textContent");
        standing
            .as_str()
            .is_some_and(|said| said.starts_with("No answer: the run has ended"))
    });
    let left = texts(&mut browser, ".card");
    assert!(!left.is_empty(), "what was seen last stays");
    assert!(page_of(&lab).is_none());
}

#[test]
fn a_monitor_alone_shows_the_runs_of_all_that_it_watches() {
    let lab = Lab::new();
    stack::recipes(
        &lab,
        &stack::QUICK,
        "pattern: closed-loop, concurrent_users: 2, duration_seconds: 40",
    );
    let _server = lab.start(&["server", "server.yaml"]);
    let _monitor = lab.start(&["monitor", "monitor.yaml"]);
    let _bench = lab.start(&["bench", "client.yaml"]);
    let mut page = Value::Null;
    wait_until(Duration::from_secs(20), "a page", || {
        page = page_of(&lab).unwrap_or_default();
        page.is_object()
    });
    let url = page["url"].as_str().expect("a URL");
    let file = page["password_file"].as_str().expect("a file");
    let password = std::fs::read_to_string(file).expect("a password");
    let mut browser = Browser::start();
    browser.log_in("aif", password.trim());
    wait_until(Duration::from_secs(40), "the load on the page", || {
        browser.open(url);
        let beside = texts(&mut browser, "main > section h3");
        beside
            .iter()
            .any(|head| head == "Engine and node at the same time")
    });
    check(&mut browser, "alone");
    let heads = texts(&mut browser, "h2");
    let has = |wanted: &str, of: &str| {
        heads
            .iter()
            .any(|head| head.starts_with(wanted) && head.contains(of))
    };
    assert!(has("Bench toy-test", "toy-bench-local"), "{heads:?}");
    for role in ["toy-server-local", "toy-monitor-local", "toy-bench-local"] {
        assert!(has("What ran", role), "{role}: {heads:?}");
    }
    assert!(has("Over the whole run", "toy-monitor-local"), "{heads:?}");
    let now = texts(&mut browser, "main > section:first-of-type").remove(0);
    assert!(
        now.contains("Load of toy-test") && now.contains("toy-server"),
        "{now}"
    );
}
