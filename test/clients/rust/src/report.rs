//! What the program says, and the watch over steps that would never end: the crate waits for an
//! answer without a time limit.
//!
//!     STEP 3 bars ok bar0=0x8000                        guest 3, step "bars"
//!     STEP 3 bars FAILED size of BAR 0: got 0, expected 0x8000
//!     HOLD 3 picture width=648 height=480               waits for a line on standard input
//!     DONE guests=10

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::process;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const STEP_TIME: Duration = Duration::from_secs(20);
/// Whoever answers takes a picture of a server on a busy machine.
const HOLD_TIME: Duration = Duration::from_secs(60);
const EXIT_STUCK: i32 = 3;

/// Ends a step with an error unless both are equal.
macro_rules! ensure_eq {
    ($actual:expr, $expected:expr, $($what:tt)+) => {{
        let (actual, expected) = (&$actual, &$expected);
        if actual != expected {
            return Err(format!(
                "{}: got {actual:#x?}, expected {expected:#x?}",
                format_args!($($what)+)
            )
            .into());
        }
    }};
}

/// Ends a step with an error unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(format!($($what)+).into());
        }
    };
}

pub(crate) use {ensure, ensure_eq};

struct Step {
    label: String,
    deadline: Option<Instant>,
}

pub struct Report {
    guest: u32,
    step: Arc<Mutex<Step>>,
}

impl Report {
    pub fn new() -> Self {
        let step = Arc::new(Mutex::new(Step {
            label: "0 start".into(),
            deadline: None,
        }));
        let watched = step.clone();
        thread::spawn(move || watch(&watched));
        Report { guest: 0, step }
    }

    pub fn guest(&mut self, guest: u32) {
        self.guest = guest;
    }

    /// Begins a step; `ok` ends it.
    pub fn step(&self, name: &str) {
        self.begin(name, STEP_TIME);
    }

    pub fn ok(&self, details: impl Display) {
        println!("STEP {} ok {details}", self.end());
    }

    /// Says on one line why the current step is the last one.
    pub fn failed(&self, error: &dyn Error) {
        let text = error.to_string();
        let words: Vec<_> = text.split_whitespace().collect();
        println!("STEP {} FAILED {}", self.end(), words.join(" "));
    }

    /// Lets the host look at its side, and returns what it has to say.
    pub fn hold(&self, name: &str, details: impl Display) -> Result<String> {
        self.begin(name, HOLD_TIME);
        println!("HOLD {} {name} {details}", self.guest);
        let mut answer = String::new();
        ensure!(
            io::stdin().read_line(&mut answer)? > 0,
            "nobody answers HOLD"
        );
        self.end();
        Ok(answer.trim().into())
    }

    fn begin(&self, name: &str, time: Duration) {
        *self.step.lock().unwrap() = Step {
            label: format!("{} {name}", self.guest),
            deadline: Some(Instant::now() + time),
        };
    }

    fn end(&self) -> String {
        let mut step = self.step.lock().unwrap();
        step.deadline = None;
        step.label.clone()
    }
}

fn watch(step: &Mutex<Step>) {
    loop {
        thread::sleep(Duration::from_millis(100));
        let step = step.lock().unwrap();
        if step
            .deadline
            .is_some_and(|deadline| Instant::now() > deadline)
        {
            println!("STEP {} FAILED no answer in time", step.label);
            process::exit(EXIT_STUCK);
        }
    }
}
