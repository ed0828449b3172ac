//! What a statement is answered with: rows, OK, an error, or what no server should send.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    delivery::{At, Delivery, Then},
    error::ServerError,
    rows::Rows,
    wire::put_bytes,
};

/// An answer to one statement.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(crate) results: Vec<Outcome>,
    pub(crate) delivery: Delivery,
    pub(crate) wait: Wait,
}

/// One of an answer's results.
#[derive(Clone)]
pub(crate) enum Outcome {
    Rows(Arc<Rows>),
    Ok,
    Error(ServerError),
    /// A packet with this payload, well framed.
    Packet(Arc<[u8]>),
    /// Bytes as they are.
    Bytes(Arc<[u8]>),
}

/// What a statement waits for before its answer goes out, beside the latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing.
    No,
    /// Its own time limit, which ends it with the server's error, or KILL.
    Limit,
    /// KILL alone: the server does not keep the limit.
    Kill,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows:?}"),
            Self::Ok => write!(f, "Ok"),
            Self::Error(error) => write!(f, "Error({})", error.code),
            Self::Packet(payload) => write!(f, "Packet({} bytes)", payload.len()),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
        }
    }
}

impl Answer {
    fn of(results: Vec<Outcome>) -> Self {
        Self { results, delivery: Delivery::default(), wait: Wait::No }
    }

    /// Rows of text.
    pub fn text<const N: usize>(
        columns: [&str; N],
        rows: impl IntoIterator<Item = [impl Into<String>; N]>,
    ) -> Self {
        let mut result = Rows::new(columns.map(crate::rows::Column::text));
        for row in rows {
            result = result.row(row.map(|cell| Some(cell.into())));
        }
        result.into()
    }

    /// One row with one integer.
    pub fn integer(column: &str, n: i64) -> Self {
        Rows::new([crate::rows::Column::integer(column)]).row([Some(n.to_string())]).into()
    }

    /// Success without rows.
    pub fn ok() -> Self {
        Self::of(vec![Outcome::Ok])
    }

    /// An error; a bare number stands for the server's usual words.
    pub fn error(error: impl Into<ServerError>) -> Self {
        Self::of(vec![Outcome::Error(error.into())])
    }

    /// Nothing, until the statement's own time limit ends it as that of a good server does, or KILL.
    pub fn hang() -> Self {
        Self { wait: Wait::Limit, ..Self::ok() }
    }

    /// Nothing, until KILL: no limit ends it.
    pub fn hang_beyond_limits() -> Self {
        Self { wait: Wait::Kill, ..Self::ok() }
    }

    /// A packet with any payload, in a good frame.
    pub fn packet(payload: impl Into<Vec<u8>>) -> Self {
        Self::of(vec![Outcome::Packet(payload.into().into())])
    }

    /// Any bytes, frames included.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(vec![Outcome::Bytes(bytes.into().into())])
    }

    /// A request for a file of the client's.
    pub fn local_infile(path: &str) -> Self {
        Self::packet([&[0xfb], path.as_bytes()].concat())
    }

    /// Another result of the same statement, sent behind this one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.results.extend(other.results);
        self
    }

    /// How it is delivered.
    #[must_use]
    pub fn delivered(self, delivery: Delivery) -> Self {
        Self { delivery, ..self }
    }

    /// The statement takes this long, whatever its limit.
    #[must_use]
    pub fn after(self, latency: Duration) -> Self {
        let delivery = self.delivery.clone().latency(latency);
        Self { delivery, ..self }
    }

    /// It stops in the middle.
    #[must_use]
    pub fn cut(self, at: At, then: Then) -> Self {
        let delivery = self.delivery.clone().cut(at, then);
        Self { delivery, ..self }
    }

    /// So many bytes at once, and the next after this time.
    #[must_use]
    pub fn trickle(self, bytes: usize, every: Duration) -> Self {
        let delivery = self.delivery.clone().trickle(bytes, every);
        Self { delivery, ..self }
    }
}

impl From<Rows> for Answer {
    fn from(rows: Rows) -> Self {
        Self::of(vec![Outcome::Rows(Arc::new(rows))])
    }
}

impl From<ServerError> for Answer {
    fn from(error: ServerError) -> Self {
        Self::error(error)
    }
}

/// What no server should send, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// An error packet without its number.
    ShortError,
    /// An OK packet without its status.
    ShortOk,
    /// An empty packet.
    Empty,
    /// A column definition that is noise.
    GarbageColumn,
    /// A column of a type that nobody knows.
    UnknownType,
    /// A row with fewer cells than there are columns.
    ShortRow,
    /// A cell that claims to be longer than its packet.
    LongRow,
    /// A result that claims to have this many columns.
    Columns(u64),
    /// A request for a file of the client's.
    LocalInfile,
}

impl Malformed {
    /// Each of them; the counts of columns are those that a careless client allocates for.
    pub const ALL: [Self; 10] = [
        Self::ShortError,
        Self::ShortOk,
        Self::Empty,
        Self::GarbageColumn,
        Self::UnknownType,
        Self::ShortRow,
        Self::LongRow,
        Self::Columns(1 << 40),
        Self::Columns(1 << 62),
        Self::LocalInfile,
    ];
}

impl From<Malformed> for Answer {
    fn from(malformed: Malformed) -> Self {
        use crate::rows::{Column, ColumnType};
        let two = || Rows::new([Column::text("a"), Column::text("b")]);
        match malformed {
            Malformed::ShortError => Self::packet([0xff]),
            Malformed::ShortOk => Self::packet([0x00, 0x00]),
            Malformed::Empty => Self::packet([]),
            Malformed::GarbageColumn => {
                Rows::new([Column::raw([3, b'd', b'e', b'f', 0xfd, 0xff, 0xff, 0xff])]).into()
            }
            Malformed::UnknownType => Rows::new([Column::new("a", ColumnType(0xf2))]).row([Some("1")]).into(),
            Malformed::ShortRow => {
                let mut payload = Vec::new();
                put_bytes(&mut payload, b"1");
                two().raw_row(payload).into()
            }
            Malformed::LongRow => two().raw_row([1, b'1', 0xfc, 0xff, 0x7f, b'2']).into(),
            Malformed::Columns(count) => two().claiming_columns(count).row([Some("1"), Some("2")]).into(),
            Malformed::LocalInfile => Self::local_infile("/etc/passwd"),
        }
    }
}
