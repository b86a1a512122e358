//! Which site counts, seen from outside.

use crate::lab::Lab;

#[test]
fn a_site_that_is_named_holds_for_the_steps_of_a_stack() {
    let lab = Lab::new();
    let site = lab.file("mine.yaml", "container_dir: /of/my/site\n");
    let recipe = lab.file(
        "mine-server.yaml",
        "name: mine-server\nservice_name: mine\nservice: {program: ['${CONTAINER_DIR}/engine']}\n",
    );
    // the laboratory's own AIF_SITE knows no CONTAINER_DIR: with it the recipe would be refused (65)
    let ended = lab.run(&[
        "--site",
        site.to_str().unwrap(),
        "stack",
        "--server",
        recipe.to_str().unwrap(),
    ]);
    ended.assert_exit(69);
    let error = lab.json("steps/server.json")["error"].to_string();
    assert!(error.contains("/of/my/site/engine"), "{error}");
}
