//! A campaign: 5,000 dead letters redriven at 500 a second, by processes of which the first two are killed, in a
//! standard queue and in a FIFO queue of 50 groups. Panics where one is lost, doubled or out of order.
//! `cargo run -p weir-conformance --example redrive -- 2.15.1`.

use std::sync::Arc;

use weir_conformance::Ground;
use weir_conformance::subject::{Nats, Subject};
use weir_conformance::suite::redrive::many::campaign;

const LETTERS: usize = 5000;
const RATE: u32 = 500;

#[tokio::main]
async fn main() {
    let version = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "2.15.1".to_owned());
    let subject: Arc<dyn Subject> = Arc::new(Nats::start(&version));
    for (name, groups) in [("standard", 0), ("fifo, 50 groups", 50)] {
        let ground = Ground::new(subject.clone(), "redrive-campaign");
        let took = campaign(ground, groups, LETTERS, RATE).await;
        println!(
            "nats {version} {name}: {LETTERS} letters at most {RATE}/s over two kills in {:.1} s, in order, none lost or doubled",
            took.as_secs_f64()
        );
    }
}
