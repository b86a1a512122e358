//! The report in a real browser, of a real run: on a desk, on a phone, on paper, by keyboard and read aloud.

use std::path::Path;

use serde_json::{Value, json};

use crate::{browser::Browser, lab::Lab, stack};

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
  for (const head of all('th')) if (!['row', 'col'].includes(head.scope)) faults.push(`a head of nothing: ${text(head)}`);
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
fn check(browser: &mut Browser, name: &str) {
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

    // the keyboard comes by everything, first of all by a way past what is above
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

    browser.media("print", "dark");
    let paper = browser.look("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.scroll')).overflowX, document.querySelector('.skip').checkVisibility()]");
    assert_eq!(paper, json!(["rgb(255, 255, 255)", "visible", false]));
}
