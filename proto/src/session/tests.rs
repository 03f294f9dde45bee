use super::{fuzzing::session_ops, *};

mod arbitrary {
    use proptest::prelude::*;

    use super::session_ops;

    proptest! {
        #[test]
        fn an_engine_that_says_anything_cannot_make_a_session_repeat_or_panic(
            data in proptest::collection::vec(any::<u8>(), 0..2_000)
        ) {
            session_ops(&data);
        }
    }
}

#[test]
fn nothing_is_asked_before_welcome() {
    let mut session = Session::new(Options::default());
    session.connected(0);
    assert_eq!(session.next_request(0), None);
    assert!(!session.timed_out(9_999));
    assert!(session.timed_out(10_000));
}
