//! The table, logs, screenshots and VNC, on the fake driver.

use std::collections::BTreeSet;

use agentd_api::frame::Frame;
use agentd_api::{ErrorCode, Timestamp, registry};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

use super::testing::{Bed, LIMIT};
use crate::http::{Pieces, SubReply};

#[tokio::test]
async fn each_declared_subresource_has_its_opener_and_no_other_has() {
    let declared: BTreeSet<(&str, &str)> =
        registry::ALL.iter().flat_map(|k| k.def.subs.iter().map(|s| (k.def.kind, s.name))).collect();
    let bed = Bed::new(false, false, "").await;
    let opened: BTreeSet<(&str, &str)> = bed.subs.table.keys().copied().collect();
    assert_eq!(opened, declared);
}

async fn logs(bed: &Bed, params: &[(&'static str, &str)]) -> Pieces {
    match bed.open("logs", params).await {
        Ok(SubReply::Content(pieces)) => pieces,
        Ok(_) => panic!("logs are content"),
        Err(problem) => panic!("{problem}"),
    }
}

/// All that comes, until it ends.
async fn all(mut pieces: Pieces) -> String {
    let mut out = Vec::new();
    while let Some(piece) = timeout(LIMIT, pieces.next()).await.expect("in time") {
        out.extend_from_slice(&piece.expect("a piece"));
    }
    String::from_utf8(out).expect("text")
}

#[tokio::test]
async fn logs_are_what_was_said_or_the_last_of_it() {
    let bed = Bed::new(false, true, "one\ntwo\nthree\n").await;
    assert_eq!(all(logs(&bed, &[]).await).await, "one\ntwo\nthree\n");
    assert_eq!(all(logs(&bed, &[("tail", "1")]).await).await, "three\n");
    assert_eq!(all(logs(&bed, &[("tail", "0")]).await).await, "");
    let later = Timestamp::now().plus(std::time::Duration::from_secs(60)).to_string();
    assert_eq!(all(logs(&bed, &[("since", &later)]).await).await, "");
    assert_eq!(
        all(logs(&bed, &[("since", "2001-01-01T00:00:00Z"), ("tail", "2")]).await).await,
        "two\nthree\n"
    );
    let refused = bed.refusal("logs", &[("since", "yesterday")]).await;
    assert_eq!((refused.code, refused.errors[0].field.as_str()), (ErrorCode::Invalid, "since"));
}

#[tokio::test]
async fn logs_are_followed_over_a_rotation_until_the_vm_is_gone() {
    let bed = Bed::new(false, true, "one\n").await;
    let mut pieces = logs(&bed, &[("follow", "true")]).await;
    let mut next = async || {
        let piece =
            timeout(LIMIT, pieces.next()).await.expect("in time").expect("it goes on").expect("a piece");
        String::from_utf8(piece.to_vec()).expect("text")
    };
    assert_eq!(next().await, "one\n");
    bed.fakes.vm.guest_says(bed.id, "two\n");
    assert_eq!(next().await, "two\n");
    std::fs::rename(bed.log(), bed.log().with_extension("log.0")).expect("rotated");
    bed.fakes.vm.guest_says(bed.id, "three\n");
    assert_eq!(next().await, "three\n");
    bed.remove_vm().await;
    assert!(timeout(LIMIT, pieces.next()).await.expect("in time").is_none());

    let bed = Bed::new(false, true, "").await;
    let mut pieces = logs(&bed, &[("follow", "true")]).await;
    bed.stop.cancel();
    assert!(timeout(LIMIT, pieces.next()).await.expect("in time").is_none(), "it ends with the server");
}

#[tokio::test]
async fn a_vm_without_graphics_has_no_screen_and_says_what_helps() {
    let bed = Bed::new(false, true, "").await;
    for sub in ["screenshot", "vnc"] {
        let refused = bed.refusal(sub, &[]).await;
        assert_eq!(refused.code, ErrorCode::Unsupported, "{sub}: {refused}");
        assert!(refused.hint.unwrap_or_default().contains("spec.graphics"), "{sub}");
    }
    let bed = Bed::new(true, false, "").await;
    for sub in ["screenshot", "vnc"] {
        assert_eq!(bed.refusal(sub, &[]).await.code, ErrorCode::Conflict, "{sub} of what is off");
    }
}

#[tokio::test]
async fn a_screenshot_is_a_png() {
    let bed = Bed::new(true, true, "").await;
    let Ok(SubReply::Content(pieces)) = bed.open("screenshot", &[]).await else { panic!("no picture") };
    let png: Vec<u8> = pieces.map(|piece| piece.expect("a piece").to_vec()).concat().await;
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{png:?}");
    assert_eq!(png[16..24], [0, 0, 0, 3, 0, 0, 0, 2], "three pixels by two");
}

#[tokio::test]
async fn vnc_is_one_connection_behind_one_ticket() {
    let bed = Bed::new(true, true, "").await;
    let mut stream = bed.stream("vnc", &[]).await;
    let Some(Frame::Json(told)) = stream.next().await else { panic!("no ticket") };
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["ticket"].as_str(), bed.fakes.vm.vnc_ticket(bed.id).as_deref());
    let second = bed.refusal("vnc", &[]).await;
    assert_eq!(second.code, ErrorCode::InUse);
    stream.to.send(&Frame::Json("{\"connect\":true}".to_owned())).await.expect("sent");
    stream.until("RFB 003.008\n").await;
    stream.types("hello").await;
    stream.until("hello").await;
    drop(stream);
    let gone = async {
        while bed.fakes.vm.vnc_ticket(bed.id).is_some() || bed.open("vnc", &[]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, gone).await.expect("the ticket is taken back, and the screen is free again");
}
