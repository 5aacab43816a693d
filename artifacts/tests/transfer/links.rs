//! Absolute links in archives.

use std::fs;
use std::path::PathBuf;

use tar::EntryType;
use wasm_workflow_artifacts::archive::Unpack;

use super::{FILE, Fixture, LINK, tar_gz};

type Entry = (&'static str, EntryType, &'static str);

/// All orders of the entries.
fn orders(entries: &[Entry]) -> Vec<Vec<Entry>> {
    if entries.is_empty() {
        return vec![Vec::new()];
    }
    let begin_with = |first: usize| {
        let mut rest = entries.to_vec();
        let first = rest.remove(first);
        let orders = orders(&rest).into_iter();
        orders.map(move |rest| [vec![first], rest].concat())
    };
    (0..entries.len()).flat_map(begin_with).collect()
}

#[tokio::test]
async fn an_absolute_link_into_the_archive_becomes_relative() {
    for (target, expected) in [
        ("/work/in/a", "../a"),
        ("/work/in/d/../a", "../a"),
        ("/work/in/none", "../none"),
        ("/a", "../a"),
        ("/d", "."),
        ("//d/./c", "c"),
    ] {
        let f = Fixture::new().await;
        let entries = [("d/l", LINK, target), ("d/c", FILE, "c"), ("a", FILE, "a")];
        f.fetch(&tar_gz(&entries), Unpack::Detect).await.unwrap();
        assert_eq!(
            fs::read_link(f.at("in/d/l")).unwrap(),
            PathBuf::from(expected),
            "{target}"
        );
    }
    // The only directory of an archive becomes the artifact.
    for target in ["/work/in/a", "/out/a"] {
        let f = Fixture::new().await;
        let entries = [("out/a", FILE, "x"), ("out/d/l", LINK, target)];
        f.fetch(&tar_gz(&entries), Unpack::Detect).await.unwrap();
        assert_eq!(fs::read_to_string(f.at("in/d/l")).unwrap(), "x", "{target}");
    }
}

#[tokio::test]
async fn an_absolute_link_out_of_the_archive_is_refused() {
    for target in [
        "/",
        "/work",
        "/work/in",
        "/work/other",
        "/work/input",
        "/work/in/../other",
        "/../a",
        "/none",
        "/etc/passwd",
    ] {
        let f = Fixture::new().await;
        fs::create_dir(f.at("work")).unwrap();
        let entries = [("a", FILE, "x"), ("l", LINK, target)];
        let error = f.fetch(&tar_gz(&entries), Unpack::Tar).await.unwrap_err();
        assert!(
            error.to_string().contains("leads out of the archive"),
            "{target}: {error}"
        );
        assert_eq!(f.paths(), ["work"]);
    }
    // Nothing is written through an absolute link, and two links do not lead out together.
    for entries in [
        vec![("a/f", FILE, "x"), ("l", LINK, "/a"), ("l/g", FILE, "y")],
        vec![
            ("d/1/2/3/r", LINK, "/d"),
            ("d/f", FILE, "x"),
            ("e", LINK, "d/1/2/3/r/../../../../etc/passwd"),
        ],
    ] {
        let f = Fixture::new().await;
        f.fetch(&tar_gz(&entries), Unpack::Tar).await.unwrap_err();
        assert!(f.paths().is_empty(), "{entries:?}: {:?}", f.paths());
    }
}

/// The target of a link may be another absolute link, or behind one.
#[tokio::test]
async fn absolute_links_through_absolute_links_do_not_depend_on_the_order_of_the_entries() {
    let to_links = [
        ("d/f", FILE, "x"),
        ("a", LINK, "/d"),
        ("b", LINK, "/a/f"),
        ("c", LINK, "/b"),
        ("e/g", LINK, "/work/in/a/f"),
    ];
    let in_one_directory = [
        ("out/d/f", FILE, "x"),
        ("out/a", LINK, "/out/d"),
        ("out/b", LINK, "/work/in/a/f"),
        ("out/c", LINK, "/out/a/f"),
    ];
    // The path below the artifact is used, although it exists only when `a` is replaced.
    let ambiguous = [
        ("d/f", FILE, "x"),
        ("a", LINK, "/d"),
        ("b", LINK, "/work/in/a/f"),
        ("work/in/a/f", FILE, "from the root"),
    ];
    // `r` leads through a relative link, and then through an absolute link.
    let mixed = [
        ("d/f", FILE, "x"),
        ("a", LINK, "/d"),
        ("s", LINK, "a"),
        ("r", LINK, "/s/f"),
        ("t", LINK, "r"),
    ];
    for (entries, links) in [
        (
            &to_links[..],
            &[("a", "d"), ("b", "a/f"), ("c", "b"), ("e/g", "../a/f")][..],
        ),
        (&in_one_directory, &[("b", "a/f"), ("c", "a/f")]),
        (&ambiguous, &[("b", "a/f")]),
        (&mixed, &[("r", "s/f"), ("t", "r")]),
    ] {
        for entries in orders(entries) {
            let f = Fixture::new().await;
            f.fetch(&tar_gz(&entries), Unpack::Detect)
                .await
                .unwrap_or_else(|error| panic!("{entries:?}: {error}"));
            for (link, target) in links {
                let link = f.at("in").join(link);
                assert_eq!(
                    fs::read_link(&link).unwrap(),
                    PathBuf::from(target),
                    "{entries:?}"
                );
                if *target != "d" {
                    assert_eq!(fs::read_to_string(link).unwrap(), "x", "{entries:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn absolute_links_that_lead_to_nothing_through_each_other_are_refused_in_every_order() {
    for entries in [
        [("d/f", FILE, "x"), ("a", LINK, "/d"), ("b", LINK, "/a/no")],
        [("d", FILE, "x"), ("a", LINK, "/b/c"), ("b", LINK, "/a/c")],
        [("d", FILE, "x"), ("a", LINK, "/b"), ("b", LINK, "/etc")],
    ] {
        for entries in orders(&entries) {
            let f = Fixture::new().await;
            let fetched = f.fetch(&tar_gz(&entries), Unpack::Tar).await;
            let error = fetched.expect_err("a link leads to nothing").to_string();
            assert!(
                error.contains("leads out of the archive"),
                "{entries:?}: {error}"
            );
            assert!(f.paths().is_empty(), "{entries:?}");
        }
    }
}

/// The path of a link may lead through a relative link.
#[tokio::test]
async fn a_link_behind_a_link_to_its_directory_is_relative_to_the_directory() {
    let f = Fixture::new().await;
    let entries = [
        ("x/y/f", FILE, "x"),
        ("z", LINK, "x/y"),
        ("z/l", LINK, "/x/y/f"),
        ("z/w", FILE, ""),
    ];
    f.fetch(&tar_gz(&entries), Unpack::Tar).await.unwrap();
    assert_eq!(fs::read_link(f.at("in/x/y/l")).unwrap(), PathBuf::from("f"));
    // The directory can be the root of the archive.
    for (target, expected) in [("/f", "f"), ("/z/c/x", "z/c/x"), ("/work/in/f", "f")] {
        let f = Fixture::new().await;
        let entries = [
            ("z/c/x", FILE, "x"),
            ("f", FILE, "x"),
            ("a/b", LINK, "../z"),
            ("a/up", LINK, "b/c/../.."),
            ("a/up/l", LINK, target),
        ];
        f.fetch(&tar_gz(&entries), Unpack::Tar).await.unwrap();
        let link = f.at("in/l");
        assert_eq!(fs::read_link(&link).unwrap(), PathBuf::from(expected));
        assert_eq!(fs::read_to_string(&link).unwrap(), "x", "{target}");
    }
    // A later entry replaces the link to the directory.
    for link in [
        ("a/b/z/l", LINK, "/etc/passwd"),
        ("a/b/z/l", LINK, "../../../g"),
    ] {
        let f = Fixture::new().await;
        let entries = [
            ("x/f", FILE, "x"),
            ("a/b/z", LINK, "../../x"),
            link,
            ("a/b/z", FILE, ""),
        ];
        let fetched = f.fetch(&tar_gz(&entries), Unpack::Tar).await;
        let error = fetched.expect_err("a link leads out").to_string();
        assert!(
            error.contains("leads out of the archive"),
            "{link:?}: {error}"
        );
    }
}
