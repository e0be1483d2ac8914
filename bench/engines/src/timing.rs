//! How long a loop takes, by the wall and by the processor time of its thread.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// Nanoseconds for each call.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// As the caller's watch says. Neighbours on the machine are in it, and so is waiting for a lock.
    pub wall: f64,
    /// As the kernel's account of the thread says; NaN where there is none.
    pub cpu: f64,
}

/// Runs `body(thread)` on `threads` threads that start together; each makes `calls` calls. The mean of
/// the threads.
pub fn measure(threads: usize, calls: u64, body: impl Fn(usize) + Sync) -> Cost {
    let barrier = Barrier::new(threads);
    let costs: Vec<Cost> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, body) = (&barrier, &body);
                scope.spawn(move || {
                    barrier.wait();
                    let (began, used) = (now(), thread_nanos());
                    body(thread);
                    Cost {
                        wall: began.elapsed().as_nanos() as f64 / calls as f64,
                        cpu: (thread_nanos() - used) / calls as f64,
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("the body does not panic"))
            .collect()
    });
    let mean = |part: fn(&Cost) -> f64| costs.iter().map(part).sum::<f64>() / costs.len() as f64;
    Cost {
        wall: mean(|cost| cost.wall),
        cpu: mean(|cost| cost.cpu),
    }
}

/// The value in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Processor time of this thread, to about a tick of the kernel.
fn thread_nanos() -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(f64::NAN)
}
