//! What holds for every message, and for every text that is none.

use proptest::{collection::vec, prelude::*};
use tickwire_proto::{
    fuzzing,
    json::{Message, PublishParser},
    reply::Reply,
    request::Request,
};

use crate::generators;

proptest! {
    #[test]
    fn every_reply_survives_its_json(reply in generators::reply()) {
        let mut out = Vec::new();
        reply.write_json(&mut out);
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(Reply::from_json(&text), Ok(reply));
    }

    #[test]
    fn every_request_survives_its_json((request, endpoint) in generators::request()) {
        prop_assert_eq!(Request::from_json(&request.to_json(), endpoint), Ok(request));
    }

    #[test]
    fn every_batch_of_ticks_survives_its_json(ticks in vec(generators::published_tick(), 0..20)) {
        let mut out = b"[".to_vec();
        for (index, tick) in ticks.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"" } else { b", " });
            tick.write_json(&mut out);
        }
        out.push(b']');
        let mut read = Vec::new();
        let message = PublishParser::default().parse(&out, |_, tick| read.push(tick));
        prop_assert_eq!(message, Ok(Message::Ticks { count: ticks.len() as u32 }));
        prop_assert_eq!(read, ticks.into_iter().map(Ok).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        fuzzing::json_request(&bytes);
        fuzzing::json_tick(&bytes);
        fuzzing::upgrade_head(&bytes);
    }

    #[test]
    fn json_that_is_nearly_right_never_panics(text in r#"(\[|\{|\}|\]|,|:|null|-1|1e3|"(op|type|subscribe|trade|symbols|since|id|price|A|\\u0041|1\.5)"){0,30}"#) {
        fuzzing::json_request(text.as_bytes());
        fuzzing::json_tick(text.as_bytes());
    }
}
