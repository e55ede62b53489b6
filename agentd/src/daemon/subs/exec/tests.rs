//! Programs in the fake's guests, run as a caller does.

use agentd_api::frame::Frame;
use agentd_api::{ErrorCode, Problem};
use agentd_drivers::vm::VmDriver;
use serde_json::{Value, json};

use crate::daemon::subs::testing::{Bed, Stream};

async fn bed() -> Bed {
    let bed = Bed::new(false, true, "").await;
    bed.fakes.vm.set_agent(bed.id, true);
    bed
}

async fn run(bed: &Bed, wish: Value) -> Stream {
    let mut stream = bed.stream("exec", &[]).await;
    stream.types(&wish.to_string()).await;
    stream.to.send(&Frame::InEnd).await.expect("sent");
    stream
}

async fn refused(stream: &mut Stream) -> Problem {
    match stream.next().await {
        Some(Frame::Failed(text)) => serde_json::from_str(&text).expect("a problem"),
        other => panic!("not refused but {other:?}"),
    }
}

#[tokio::test]
async fn output_error_and_status_come_as_they_are() {
    let bed = bed().await;
    let mut stream = run(&bed, json!({"argv": ["echo", "a", "b"]})).await;
    assert_eq!(stream.next().await, Some(Frame::Out(b"a b\n".to_vec())));
    assert_eq!(stream.next().await, Some(Frame::Exit(0)));
    let mut stream = run(&bed, json!({"argv": ["err", "oh"]})).await;
    assert_eq!(stream.next().await, Some(Frame::Err(b"oh".to_vec())));
    let mut stream = run(&bed, json!({"argv": ["exit", "7"]})).await;
    assert_eq!(stream.next().await, Some(Frame::Exit(7)));
    let mut stream = run(&bed, json!({"argv": ["none"]})).await;
    assert!(matches!(stream.next().await, Some(Frame::Err(_))));
    assert_eq!(stream.next().await, Some(Frame::Exit(127)));
}

#[tokio::test]
async fn input_sizes_and_signals_reach_the_program() {
    let bed = bed().await;
    let mut stream = run(&bed, json!({"argv": ["cat"], "input": true})).await;
    stream.types("hello").await;
    assert_eq!(stream.next().await, Some(Frame::Out(b"hello".to_vec())));
    stream.to.send(&Frame::InEnd).await.expect("sent");
    assert_eq!(stream.next().await, Some(Frame::Exit(0)));
    let terminal = json!({"columns": 80, "rows": 24});
    let mut stream = run(&bed, json!({"argv": ["size"], "terminal": terminal})).await;
    assert_eq!(stream.next().await, Some(Frame::Out(b"80x24\n".to_vec())));
    stream.to.send(&Frame::Resize { columns: 132, rows: 43 }).await.expect("sent");
    assert_eq!(stream.next().await, Some(Frame::Out(b"132x43\n".to_vec())));
    stream.to.send(&Frame::Signal(2)).await.expect("sent");
    assert_eq!(stream.next().await, Some(Frame::Exit(130)));
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_by_name() {
    let bed = bed().await;
    let long = "x".repeat(200_000);
    for (wish, field) in [
        (json!({"argv": []}), "argv"),
        (json!({"argv": ["echo", long]}), "argv"),
        (json!({"argv": ["echo"], "cwd": "here"}), "cwd"),
    ] {
        let problem = refused(&mut run(&bed, wish).await).await;
        assert_eq!(
            (problem.code, problem.errors[0].field.as_str()),
            (ErrorCode::Invalid, field),
            "{problem:?}"
        );
    }
    let problem = refused(&mut run(&bed, json!({"argv": ["ls"], "stdin": true})).await).await;
    assert!(problem.detail.contains("stdin"), "{problem:?}");
    let problem = refused(&mut run(&bed, json!({"argv": ["ls"], "user": "me"})).await).await;
    assert_eq!(problem.code, ErrorCode::NotFound, "{problem:?}");
    // A document without end is not read without end.
    let mut stream = bed.stream("exec", &[]).await;
    for _ in 0..17 {
        if stream.to.send(&Frame::In(vec![b' '; 64 << 10])).await.is_err() {
            break;
        }
    }
    assert_eq!(refused(&mut stream).await.code, ErrorCode::Invalid);
}

#[tokio::test]
async fn a_guest_that_is_off_or_without_an_agent_is_told_of_before_the_stream() {
    let bed = bed().await;
    bed.fakes.vm.set_agent(bed.id, false);
    for sub in ["exec", "files"] {
        let problem = bed.refusal(sub, &[("path", "/etc")]).await;
        assert_eq!(problem.code, ErrorCode::Unsupported, "{problem:?}");
        assert!(problem.hint.is_some_and(|hint| hint.contains("agentd-guest")));
    }
    bed.fakes.vm.destroy(bed.id).await.expect("destroyed");
    for sub in ["exec", "files"] {
        assert_eq!(bed.refusal(sub, &[("path", "/etc")]).await.code, ErrorCode::Conflict);
    }
}

#[tokio::test]
async fn a_path_that_climbs_or_leads_nowhere_is_refused() {
    let bed = bed().await;
    for path in ["/a/../b", "a", ""] {
        let problem = bed.refusal("files", &[("path", path)]).await;
        assert_eq!((problem.code, problem.errors[0].field.as_str()), (ErrorCode::Invalid, "path"));
    }
    assert_eq!(bed.refusal("files", &[]).await.code, ErrorCode::Invalid);
    assert_eq!(bed.refusal("files", &[("path", "/none")]).await.code, ErrorCode::NotFound);
}
