//! Packages as they are made: the same bytes every time, and what Debian's and Fedora's own tools say of them.

use agent_tests::host::daemon::binary;
use agent_tests::host::namespace;

/// One for tests is not compressed, which saves them the time.
const QUICK: &str = "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball";

/// The same sources give the same bytes, and Debian's own judge finds no error.
#[test]
#[ignore = "needs the packages of packaging/host-packages: run by tests/run"]
fn package_is_the_same_every_time_and_without_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let make = |sort: &str, name: &str| {
        let out = folder.path().join(name);
        std::fs::create_dir_all(&out).expect("a folder");
        let out = out.to_string_lossy().into_owned();
        let made = namespace::run(
            &binary("xtask").to_string_lossy(),
            &[sort, "--profile", "dev", "--as-built", "--out", &out],
        );
        let path = made.expect("a package").trim().to_owned();
        (std::fs::read(&path).expect("the package"), path)
    };
    for sort in ["deb", "rpm"] {
        let ((one, path), (two, _)) = (make(sort, "one"), make(sort, "two"));
        assert!(one == two, "two {sort} of the same sources differ");
        match sort {
            "deb" => {
                let said = namespace::run(
                    "/usr/bin/lintian",
                    &["--fail-on", "error", "--suppress-tags", QUICK, "--allow-root", &path],
                );
                println!("{}", said.unwrap_or_else(|error| panic!("{error:#}")));
            }
            _ => {
                let files = namespace::run("/usr/bin/rpm", &["-qp", "--list", &path]).expect("its files");
                assert!(
                    files.contains("/usr/bin/agentd\n") && files.contains("/etc/agentd/agentd.toml\n"),
                    "{files}"
                );
                let kept =
                    namespace::run("/usr/bin/rpm", &["-qp", "--configfiles", &path]).expect("its files");
                assert_eq!(kept.trim(), "/etc/agentd/agentd.toml");
                namespace::run("/usr/bin/rpm", &["-K", "--nosignature", &path]).expect("its digests");
            }
        }
    }
}
