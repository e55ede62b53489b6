use super::*;

fn table() -> Table {
    let rows = [
        ["web", "running", "10.77.0.2", "-"],
        [
            "a-longer-name",
            "failed",
            "-",
            "qemu said:\n\u{1b}[31mno such machine type as the one that was asked for",
        ],
    ];
    let rows = rows.iter().map(|row| row.iter().map(|c| (*c).to_owned()).collect()).collect();
    Table::with_headings(vec!["NAME", "STATE", "ADDRESS", "REASON"], rows)
}

fn shown(limit: Option<usize>) -> String {
    let mut out = Vec::new();
    table().write_within(&mut out, limit).expect("a Vec takes all");
    String::from_utf8(out).expect("text")
}

#[test]
fn a_pipe_gets_whole_lines() {
    insta::assert_snapshot!(shown(None), @r"
    NAME           STATE    ADDRESS    REASON
    web            running  10.77.0.2  -
    a-longer-name  failed   -          qemu said: �[31mno such machine type as the one that was asked for
    ");
    assert_eq!(shown(Some(200)), shown(None));
}

#[test]
fn a_narrow_terminal_gets_wrapped_cells() {
    let text = shown(Some(60));
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    insta::assert_snapshot!(text, @r"
    NAME           STATE    ADDRESS    REASON
    web            running  10.77.0.2  -
    a-longer-name  failed   -          qemu said: �[31mno such
                                       machine type as the one
                                       that was asked for
    ");
}

#[test]
fn a_terminal_too_narrow_for_the_short_columns_gets_whole_lines() {
    assert_eq!(shown(Some(40)), shown(None));
}

#[test]
fn no_heading_stands_alone_in_an_empty_kind() {
    let mut out = Vec::new();
    Table::with_headings(vec!["NAME"], Vec::new()).write_within(&mut out, None).expect("a Vec takes all");
    assert_eq!(out, b"NAME\n");
}
