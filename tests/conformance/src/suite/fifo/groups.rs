//! What groups are: names, independence, delays, identities, numbers.

use std::time::Duration;

use tokio::time::Instant;
use weir_broker::Publication;

use super::{
    another, attempts_of, grouped, handle, handle_all, ids, ids_of, next, none, publish_unique,
    queue,
};
use crate::ground::{Ground, becomes_empty, depth_becomes, plain};

/// A group whose first message hangs takes one turn and nothing else, however long it is.
pub async fn fifo_a_poisoned_group_stops_no_other(mut ground: Ground) {
    ground.spec.config.limit = 2;
    let here = queue(&mut ground).await;
    here.publish("poison", ids("poison", 0..400)).await;
    let mut turns = here.turns(2).await;
    let poison = next(&mut turns).await;
    assert_eq!(poison.group, "poison");
    for round in 0..3 {
        for group in ["a", "b", "c"] {
            here.publish(group, [format!("{group}-{round}")]).await;
        }
        poison.lease.begin().await.unwrap();
        poison.lease.count(&[round + 1]).await.unwrap();
        poison.lease.extend().await.unwrap();
        let handled = handle(&mut turns, 3).await;
        assert_eq!(handled.len(), 3);
    }
    none(&mut turns).await;
    let left = poison.lease.more().await.unwrap().unwrap();
    assert_eq!(
        (left[0].message.id.as_str(), left[0].attempts),
        ("poison-0", 3)
    );
}

/// A busy group gives way: those that wait get their turns.
pub async fn fifo_a_long_group_gives_way_to_those_that_wait(mut ground: Ground) {
    ground.spec.config.limit = 1;
    let here = queue(&mut ground).await;
    here.publish("long", ids("long", 0..600)).await;
    here.publish("short", ids("short", 0..1)).await;
    let mut turns = here.turns(1).await;
    let mut seen = 0;
    loop {
        let turn = next(&mut turns).await;
        let group = turn.group.clone();
        let handled = handle_all(turn).await.len();
        turns.want(1);
        if group == "short" {
            break;
        }
        seen += handled;
    }
    assert!(seen < 600, "the short group waited for all of the long one");
    handle(&mut turns, 600 - seen).await;
    becomes_empty(&here.work).await;
}

/// Any text names a group, and no two texts name the same.
pub async fn fifo_hostile_group_names_are_groups(mut ground: Ground) {
    ground.spec.config.limit = 50;
    let here = queue(&mut ground).await;
    let long = "x".repeat(128);
    let wide = "\u{1F600}".repeat(32);
    let longest = "y".repeat(10 * 1024);
    let names = [
        "",
        "*",
        ">",
        ".",
        "a.b",
        "a b",
        " ",
        "a\nb",
        "a\r\nWeir-Id: x",
        "%41",
        "A",
        "\0",
        "ü",
        "~",
        "a/b",
        "$JS",
        &long,
        &wide,
        &longest,
        "a*",
        "%%x",
    ];
    for name in names {
        here.publish(name, [format!("i{}-0", name.len())]).await;
        here.publish(name, [format!("i{}-1", name.len())]).await;
    }
    // No group is the group of the empty name.
    here.work.publish(plain("none")).await.unwrap();
    let mut turns = here.turns(names.len() + 5).await;
    let mut held = Vec::new();
    for _ in names {
        held.push(next(&mut turns).await);
    }
    none(&mut turns).await;
    let mut found: Vec<String> = held.iter().map(|turn| turn.group.clone()).collect();
    found.sort_unstable();
    let mut wanted: Vec<String> = names.map(str::to_owned).to_vec();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    for turn in held {
        let group = turn.group.clone();
        assert_eq!(
            turn.messages[0].message.group.as_deref(),
            Some(group.as_str())
        );
        let handled = handle_all(turn).await;
        assert_eq!(handled.len(), if group.is_empty() { 3 } else { 2 });
        assert_eq!(handled[0], format!("i{}-0", group.len()));
    }
    becomes_empty(&here.work).await;
}

/// A message that is not due holds its group and no slot.
pub async fn fifo_a_delay_holds_its_group_and_no_slot(mut ground: Ground) {
    ground.spec.config.limit = 1;
    let here = queue(&mut ground).await;
    let delay = Duration::from_millis(1500);
    let published = Instant::now();
    here.work
        .publish(Publication {
            delay,
            ..grouped("late", "late-0")
        })
        .await
        .unwrap();
    here.publish("late", ids("late", 1..3)).await;
    let mut turns = here.turns(5).await;
    tokio::select! {
        came = next(&mut turns) => panic!("{came:?}"),
        _ = depth_becomes(&here.work, |depth| depth.delayed == 1) => {}
    }
    here.publish("now", ids("now", 0..1)).await;
    let first = next(&mut turns).await;
    assert_eq!(first.group, "now");
    handle_all(first).await;
    let late = next(&mut turns).await;
    assert!(published.elapsed() >= delay, "{:?}", published.elapsed());
    assert_eq!(
        (ids_of(&late), attempts_of(&late)),
        (ids("late", 0..1), vec![0])
    );
    assert_eq!(handle_all(late).await, ids("late", 0..3));

    // In the middle of a group, too.
    here.publish("mid", ids("mid", 0..1)).await;
    let published = Instant::now();
    here.work
        .publish(Publication {
            delay,
            ..grouped("mid", "mid-1")
        })
        .await
        .unwrap();
    here.publish("mid", ids("mid", 2..3)).await;
    let turn = next(&mut turns).await;
    assert_eq!(handle_all(turn).await, ids("mid", 0..1));
    let turn = next(&mut turns).await;
    assert!(published.elapsed() >= delay);
    assert_eq!(handle_all(turn).await, ids("mid", 1..3));
    becomes_empty(&here.work).await;
}

/// What is deduplicated is what the intake says: per queue or per group.
pub async fn fifo_identities_store_once(mut ground: Ground) {
    let here = queue(&mut ground).await;
    assert!(!publish_unique(&here, "a", "a-0", "x").await.duplicate);
    let again = publish_unique(&here, "b", "b-0", "x").await;
    assert_eq!((again.duplicate, again.id.as_str()), (true, "a-0"));
    assert!(!publish_unique(&here, "b", "b-1", "b:x").await.duplicate);
    let mut turns = here.turns(5).await;
    let mut handled = handle(&mut turns, 2).await;
    handled.sort_unstable();
    assert_eq!(handled, ["a-0", "b-1"]);
    assert!(publish_unique(&here, "a", "a-1", "x").await.duplicate);
    none(&mut turns).await;
    becomes_empty(&here.work).await;
}

/// Looking changes nothing, and the numbers are those of the broker.
pub async fn fifo_depth_and_peek_show_what_is_there(mut ground: Ground) {
    ground.spec.config.batch_max = 2;
    let here = queue(&mut ground).await;
    let there = another(&ground).await;
    here.publish("a", ids("a", 0..5)).await;
    here.publish("b", ids("b", 0..1)).await;
    depth_becomes(&there.work, |depth| {
        (depth.ready, depth.in_flight, depth.delayed, depth.dead) == (6, 0, 0, 0)
            && depth.oldest.is_some()
    })
    .await;
    assert_eq!(there.fifo.groups().await.unwrap().runnable, 2);
    let mut turns = here.turns(1).await;
    let turn = next(&mut turns).await;
    assert_eq!(ids_of(&turn), ids("a", 0..2));
    turn.lease.begin().await.unwrap();
    turn.lease.count(&[3, 1]).await.unwrap();
    depth_becomes(&there.work, |depth| {
        (depth.ready, depth.in_flight) == (5, 1)
    })
    .await;
    let groups = there.fifo.groups().await.unwrap();
    assert_eq!((groups.runnable, groups.in_turn, groups.held), (2, 1, 0));
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = there.work.peek(after, 4).await.unwrap();
        seen.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let seen: Vec<_> = seen
        .iter()
        .map(|stored| (stored.message.id.as_str(), stored.attempts))
        .collect();
    assert_eq!(
        seen,
        [
            ("a-0", 3),
            ("a-1", 1),
            ("a-2", 0),
            ("a-3", 0),
            ("a-4", 0),
            ("b-0", 0)
        ]
    );
    let handled = handle_all(turn).await.len();
    turns.want(1);
    handle(&mut turns, 6 - handled).await;
    turns.stop().await;
    becomes_empty(&there.work).await;
    let groups = there.fifo.groups().await.unwrap();
    assert_eq!((groups.runnable, groups.in_turn, groups.held), (0, 0, 0));
}
