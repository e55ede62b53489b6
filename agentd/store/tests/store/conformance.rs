//! Runs the conformance suite against each engine.

use agentd_store::engine::memory::MemoryEngine;
use agentd_store::{Options, Store};

use crate::suite;

macro_rules! conform {
    ($($module:ident { $($test:ident),* $(,)? })*) => {
        mod sqlite {
            use super::*;
            $($(
                #[tokio::test]
                async fn $test() {
                    let directory = tempfile::tempdir().expect("a directory");
                    let file = directory.path().join("agentd.db");
                    suite::$module::$test(&|options: Options| {
                        Store::open(&file, options).expect("the store opens")
                    })
                    .await;
                }
            )*)*
        }
        mod memory {
            use super::*;
            $($(
                #[tokio::test]
                async fn $test() {
                    let engine = MemoryEngine::new();
                    suite::$module::$test(&|options: Options| {
                        Store::with_engine(Box::new(engine.clone()), options).expect("the store opens")
                    })
                    .await;
                }
            )*)*
        }
    };
}

conform! {
    objects {
        an_object_is_as_it_was_written,
        a_name_exists_once,
        an_update_changes_what_it_says,
        a_change_that_changes_nothing_is_none,
        expectations_are_held,
        deleting_is_marked_once,
        everything_is_there_after_reopening,
        a_crowd_is_there_after_reopening,
        a_new_object_of_an_old_name_is_another,
    }
    transactions {
        a_refused_transaction_leaves_nothing,
        a_panicking_transaction_is_taken_back_alone,
        a_renamed_object_is_the_same_under_another_name,
        a_transaction_sees_what_it_did,
        a_transaction_sees_earlier_ones_of_its_batch,
        allocations_are_unique_and_go_with_their_owner,
        an_allocation_does_not_outlive_the_transaction_without_an_owner,
        callers_share_commits,
        a_caller_that_goes_away_takes_nothing_back,
        closing_finishes_what_waits,
    }
    lists {
        lists_are_in_order_of_project_and_name,
        pages_are_stable_while_objects_change,
        selectors_find_just_what_matches,
        indexes_follow_changes,
    }
    history {
        a_watch_sees_every_change_once_in_order,
        a_watch_resumes_after_reopening,
        a_watch_that_comes_too_late_is_told,
        a_slow_watcher_is_told_and_holds_up_nobody,
        compaction_forgets_and_goes_on,
        history_is_bounded_across_reopening,
        history_at_rest_is_the_newest_of_it,
        events_are_kept_and_bounded,
        events_are_found_by_what_they_are_of,
        answers_are_kept_and_bounded,
        answers_expire,
    }
}
