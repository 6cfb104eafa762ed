//! A start that has too little of something: it says so, and makes no promise that is weaker than what the host allows.

use crate::support::{PROGRAM, script_says, shown};

/// How trees are held together, as the log says it.
fn containment(said: &str) -> Option<&str> {
    said.split_once(r#""containment":""#)?.1.split('"').next()
}

#[test]
fn a_gateway_without_descriptors_for_its_containment_does_not_start_with_a_weaker_one() {
    let dir = tempfile::tempdir().unwrap();
    let variables = [("SPAWNLING_LOG", "info"), ("TMPDIR", shown(dir.path()))]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let check = |script: &str| {
        let words = ["check", "--", PROGRAM, "demo"];
        script_says(&format!("{script} exec \"$0\" \"$@\""), dir.path(), &variables, &words)
    };
    let said = check("");
    let best = containment(&said).expect(&said);
    let mut untried = 0;
    for most in 8.. {
        let said = check(&format!("ulimit -n {most};"));
        if said.contains("could not be tried out") {
            untried += 1;
            assert!(
                said.contains("Too many open files") && said.contains("`LimitNOFILE=`"),
                "{most}: {said}"
            );
        }
        // With fewer there is no runtime, and no directory; with more it is the server that cannot be started.
        assert_eq!(containment(&said).unwrap_or(best), best, "{most}: {said}");
        if said.contains("default: ok") {
            break;
        }
        assert!(most < 100, "{said}");
    }
    assert!(untried > 0);
}
