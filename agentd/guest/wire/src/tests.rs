use proptest::prelude::*;

use super::*;

const NONCE: u32 = 0x1234_5678;

fn any_text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 /äé-]{0,40}"
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let exec = (
        proptest::collection::vec(any_text(), 0..4),
        proptest::collection::vec((any_text(), any_text()), 0..4),
        proptest::option::of(any_text()),
        proptest::option::of(any_text()),
        proptest::option::of(any::<(u16, u16)>()),
        any::<bool>(),
    )
        .prop_map(|(argv, env, cwd, user, terminal, input)| {
            Wish::Exec(ExecWish { argv, env, cwd, user, terminal, input })
        });
    prop_oneof![
        exec,
        any_text().prop_map(|path| Wish::Pack { path }),
        any_text().prop_map(|path| Wish::Unpack { path }),
        Just(Wish::Facts),
        Just(Wish::Freeze),
        Just(Wish::Thaw),
        any::<(u16, u16)>().prop_map(|(columns, rows)| Wish::ConsoleSize { columns, rows }),
        any::<u64>().prop_map(|nanos| Wish::Time { nanos }),
    ]
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let interface = (any_text(), any_text(), proptest::collection::vec(any_text(), 0..3))
        .prop_map(|(name, mac, addresses)| Interface { name, mac, addresses });
    let filesystem = (any_text(), any_text(), any_text(), any::<(u64, u64)>())
        .prop_map(|(path, device, kind, (size, used))| Filesystem { path, device, kind, size, used });
    let texts = proptest::array::uniform6(any_text());
    (texts, proptest::collection::vec(interface, 0..3), proptest::collection::vec(filesystem, 0..3)).prop_map(
        |([agent, hostname, id, name, version, kernel], interfaces, filesystems)| Facts {
            agent,
            hostname,
            os: Os { id, name, version },
            kernel,
            interfaces,
            filesystems,
        },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    let stream = prop_oneof![Just(Stream::In), Just(Stream::Out), Just(Stream::Err)];
    let answer = prop_oneof![
        Just(Answer::Started),
        any::<i32>().prop_map(Answer::Exit),
        any::<(u64, u64)>().prop_map(|(count, bytes)| Answer::Done { count, bytes }),
        any_facts().prop_map(Answer::Facts),
        any_text().prop_map(|detail| Answer::Failed { trouble: Trouble::Missing, detail }),
        any_text().prop_map(|detail| Answer::Failed { trouble: Trouble::Full, detail }),
    ];
    let data = proptest::collection::vec(any::<u8>(), 1..300);
    prop_oneof![
        (any::<u32>(), any_wish()).prop_map(|(session, wish)| Message::Open { session, wish }),
        (any::<u32>(), stream.clone(), data).prop_map(|(session, stream, bytes)| Message::Data {
            session,
            stream,
            bytes
        }),
        (any::<u32>(), stream).prop_map(|(session, stream)| Message::End { session, stream }),
        any::<(u32, u32)>().prop_map(|(session, bytes)| Message::Credit { session, bytes }),
        any::<(u32, u32)>().prop_map(|(session, number)| Message::Signal { session, number }),
        any::<(u32, u16, u16)>().prop_map(|(session, columns, rows)| Message::Resize {
            session,
            columns,
            rows
        }),
        any::<u32>().prop_map(|session| Message::Close { session }),
        (any::<u32>(), answer).prop_map(|(session, answer)| Message::Reply { session, answer }),
    ]
}

/// All that is found, the nonce of each greeting accepted as it comes.
fn all(parser: &mut Parser) -> Vec<Found> {
    let mut found = Vec::new();
    while let Some(next) = parser.next() {
        if let Found::Greeting { nonce, .. } = next {
            parser.accept(nonce);
        }
        found.push(next);
    }
    found
}

fn in_pieces(parser: &mut Parser, bytes: &[u8], size: usize) -> Vec<Found> {
    bytes
        .chunks(size.max(1))
        .flat_map(|piece| {
            parser.push(piece);
            all(parser)
        })
        .collect()
}

proptest! {
    #[test]
    fn what_is_said_is_heard(messages in proptest::collection::vec(any_message(), 0..8), size in 5_usize..200) {
        let mut bytes = greeting(Side::Host, NONCE);
        bytes.extend(flush());
        messages.iter().for_each(|m| bytes.extend(m.encode(NONCE)));
        let found = in_pieces(&mut Parser::new(Side::Host), &bytes, size);
        let wanted: Vec<Found> = std::iter::once(Found::Greeting { nonce: NONCE, version: VERSION })
            .chain(messages.into_iter().map(Found::Message))
            .collect();
        prop_assert_eq!(found, wanted);
    }

    /// An earlier connection that was cut anywhere, in either of its ends, costs nothing of the next.
    #[test]
    fn a_cut_connection_is_skipped(
        messages in proptest::collection::vec(any_message(), 1..5),
        cut in 0_usize..2000,
        from in 0_usize..2000,
        size in 100_usize..5000,
    ) {
        let mut old = greeting(Side::Host, 7);
        messages.iter().for_each(|m| old.extend(m.encode(7)));
        let mut bytes = old[from.min(old.len())..].to_vec();
        bytes.truncate(cut);
        bytes.extend(greeting(Side::Host, NONCE));
        bytes.extend(flush());
        let wanted = Message::Close { session: 9 };
        bytes.extend(wanted.encode(NONCE));
        let found = in_pieces(&mut Parser::new(Side::Host), &bytes, size);
        let tail = &found[found.len() - 2..];
        prop_assert_eq!(tail, &[Found::Greeting { nonce: NONCE, version: VERSION }, Found::Message(wanted)]);
        // Nothing of the old was taken for something of the new.
        let greeted = found.iter().rposition(|f| matches!(f, Found::Greeting { .. }));
        prop_assert_eq!(greeted, Some(found.len() - 2));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), size in 1_usize..50) {
        let mut parser = Parser::new(Side::Guest);
        parser.accept(NONCE);
        in_pieces(&mut parser, &bytes, size);
        let mut whole = greeting(Side::Guest, NONCE);
        for kind in 0..10 {
            whole.extend([MARKER, kind, 0, 0, 0, 1, 0, 0, 0, u8::try_from(bytes.len() % 200).unwrap_or(0)]);
            whole.extend(NONCE.to_be_bytes());
            whole.extend(&bytes[..bytes.len() % 200]);
            whole.extend((!NONCE).to_be_bytes());
        }
        in_pieces(&mut Parser::new(Side::Guest), &whole, size);
    }
}

#[test]
fn what_is_too_long_or_of_another_connection_is_no_frame() {
    let lost = |bytes: &[u8]| {
        let mut parser = Parser::new(Side::Guest);
        parser.accept(NONCE);
        parser.push(bytes);
        parser.next() == Some(Found::Lost)
    };
    let good = Message::Data { session: 1, stream: Stream::Out, bytes: vec![1; DATA_MAX] }.encode(NONCE);
    assert!(!lost(&good));
    let mut long = good.clone();
    long[6..10].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(lost(&long), "a length beyond all bounds is not waited for");
    assert!(lost(&Message::Close { session: 1 }.encode(NONCE + 1)));
    assert!(lost(b"something else"));
    let empty = Message::Data { session: 1, stream: Stream::Out, bytes: Vec::new() }.encode(NONCE);
    assert!(lost(&empty), "data of nothing would cost nothing");
}

#[test]
fn facts_are_cut_to_what_is_taken() {
    let long = "x\n".repeat(1000);
    let facts = Facts {
        hostname: long.clone(),
        interfaces: vec![Interface { name: long, ..Interface::default() }; 100],
        ..Facts::default()
    };
    let reply =
        |facts: &Facts| Message::Reply { session: 1, answer: Answer::Facts(facts.clone()) }.encode(NONCE);
    let mut parser = Parser::new(Side::Guest);
    parser.accept(NONCE);
    parser.push(&reply(&facts));
    assert_eq!(parser.next(), Some(Found::Lost));
    let bounded = facts.bounded();
    parser.reset();
    parser.accept(NONCE);
    parser.push(&reply(&bounded));
    let wanted = Message::Reply { session: 1, answer: Answer::Facts(bounded) };
    assert_eq!(parser.next(), Some(Found::Message(wanted)));
}
