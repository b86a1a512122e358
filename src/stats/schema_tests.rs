//! The schema that is shipped is the one of the code.

use super::Results;

#[test]
fn the_shipped_schema_is_that_of_the_code() {
    let schema = schemars::schema_for!(Results);
    let mut text = serde_json::to_string_pretty(&schema).expect("JSON");
    text.push('\n');
    let shipped = include_str!("results.schema.json");
    let made = std::env::temp_dir().join("results.schema.json");
    if text != shipped {
        crate::files::write_atomic(
            &made,
            text.as_bytes(),
            0o644,
            crate::files::Durability::Fast,
        )
        .expect("written");
    }
    assert!(
        text == shipped,
        "results.json has another form now: if so it shall be, copy {} to src/stats/results.schema.json",
        made.display()
    );
}
