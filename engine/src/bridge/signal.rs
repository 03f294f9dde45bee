//! Waiting for descriptors that tokio has no type for: a bell, and a timer that is finer than its own.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::{io::AsyncReadExt as _, net::unix::pipe::Receiver};

/// A descriptor from which eight bytes can be read whenever it has something to say, such as those
/// of `eventfd(2)` and `timerfd_create(2)`.
pub struct Signal(Receiver);

impl Signal {
    /// Waits for `descriptor`, which must not block. To be made on a runtime.
    pub fn on(descriptor: OwnedFd) -> io::Result<Self> {
        // It is read from as a pipe is.
        Receiver::from_file_unchecked(File::from(descriptor)).map(Self)
    }

    /// The next time that it speaks; dropped early, nothing is lost.
    pub async fn comes(&mut self) -> io::Result<()> {
        let mut count = [0; 8];
        self.0.read(&mut count).await.map(drop)
    }
}

/// Pauses of microseconds; tokio's own timer counts milliseconds.
pub struct Pause {
    timer: OwnedFd,
    end: Signal,
}

impl Pause {
    /// Ready to pause. To be made on a runtime.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let end = Signal::on(timer.as_fd().try_clone_to_owned()?)?;
        Ok(Self { timer, end })
    }

    /// Waits for as long as `span`, which is not nothing.
    pub async fn take(&mut self, span: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: span.as_secs().cast_signed(),
                tv_nsec: span.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.end.comes().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::bell::Bell;

    fn on_a_runtime(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap()
            .block_on(test);
    }

    #[test]
    fn a_bell_is_heard() {
        on_a_runtime(async {
            let bell = Bell::new().unwrap();
            let mut signal = Signal::on(bell.as_fd().try_clone_to_owned().unwrap()).unwrap();
            for _ in 0..2 {
                bell.doze();
                let ringer = std::thread::spawn({
                    let bell = std::sync::Arc::clone(&bell);
                    move || bell.ring()
                });
                signal.comes().await.unwrap();
                ringer.join().unwrap();
            }
        });
    }

    #[test]
    fn a_pause_is_as_long_as_it_should_be() {
        on_a_runtime(async {
            let mut pause = Pause::new().unwrap();
            let span = Duration::from_micros(300);
            for _ in 0..3 {
                let began = Instant::now();
                pause.take(span).await.unwrap();
                assert!(began.elapsed() >= span);
            }
        });
    }
}
