//! A result set: columns with their types, and rows that are held or made as they are sent.

use std::{fmt, sync::Arc};

use crate::wire::{put_bytes, put_integer};

/// A column type's number in the protocol. Any number may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnType(pub u8);

#[expect(missing_docs, reason = "the protocol's own names")]
impl ColumnType {
    pub const DECIMAL: Self = Self(0x00);
    pub const TINY: Self = Self(0x01);
    pub const SHORT: Self = Self(0x02);
    pub const LONG: Self = Self(0x03);
    pub const FLOAT: Self = Self(0x04);
    pub const DOUBLE: Self = Self(0x05);
    pub const NULL: Self = Self(0x06);
    pub const TIMESTAMP: Self = Self(0x07);
    pub const LONG_LONG: Self = Self(0x08);
    pub const INT24: Self = Self(0x09);
    pub const DATE: Self = Self(0x0a);
    pub const TIME: Self = Self(0x0b);
    pub const DATETIME: Self = Self(0x0c);
    pub const YEAR: Self = Self(0x0d);
    pub const VAR_CHAR: Self = Self(0x0f);
    pub const BIT: Self = Self(0x10);
    pub const JSON: Self = Self(0xf5);
    pub const NEW_DECIMAL: Self = Self(0xf6);
    pub const ENUM: Self = Self(0xf7);
    pub const SET: Self = Self(0xf8);
    pub const TINY_BLOB: Self = Self(0xf9);
    pub const MEDIUM_BLOB: Self = Self(0xfa);
    pub const LONG_BLOB: Self = Self(0xfb);
    pub const BLOB: Self = Self(0xfc);
    pub const VAR_STRING: Self = Self(0xfd);
    pub const STRING: Self = Self(0xfe);
    pub const GEOMETRY: Self = Self(0xff);
}

/// A flag of a column: it is not negative.
pub const UNSIGNED: u16 = 32;
/// A flag of a column: its bytes are no text.
pub const BINARY: u16 = 128;
/// A flag of a column of type [`ColumnType::STRING`]: it is an ENUM.
pub const ENUM: u16 = 256;
/// A flag of a column of type [`ColumnType::STRING`]: it is a SET.
pub const SET: u16 = 2048;

/// The collation `binary`.
const COLLATION_BINARY: u16 = 63;
/// The collation `utf8mb4_general_ci`.
const COLLATION_UTF8MB4: u16 = 45;

/// A column of a result.
#[derive(Debug, Clone)]
pub struct Column {
    /// The payload of its definition.
    definition: Vec<u8>,
}

impl Column {
    /// A column of this type, of the length and collation that such columns usually have.
    pub fn new(name: &str, kind: ColumnType) -> Self {
        let number = matches!(
            kind,
            ColumnType::TINY
                | ColumnType::SHORT
                | ColumnType::LONG
                | ColumnType::LONG_LONG
                | ColumnType::INT24
                | ColumnType::FLOAT
                | ColumnType::DOUBLE
                | ColumnType::NEW_DECIMAL
                | ColumnType::BIT
                | ColumnType::YEAR
                | ColumnType::DATE
                | ColumnType::TIME
                | ColumnType::DATETIME
                | ColumnType::TIMESTAMP
        );
        let (collation, flags) = if number { (COLLATION_BINARY, BINARY) } else { (COLLATION_UTF8MB4, 0) };
        Self::with(name, kind, flags, collation)
    }

    /// Text.
    pub fn text(name: &str) -> Self {
        Self::new(name, ColumnType::VAR_STRING)
    }

    /// A BIGINT.
    pub fn integer(name: &str) -> Self {
        Self::new(name, ColumnType::LONG_LONG)
    }

    /// A column with the given flags and collation.
    pub fn with(name: &str, kind: ColumnType, flags: u16, collation: u16) -> Self {
        let mut definition = Vec::with_capacity(name.len() + 24);
        put_bytes(&mut definition, b"def");
        for schema_or_table in [b""; 3] {
            put_bytes(&mut definition, schema_or_table);
        }
        put_bytes(&mut definition, name.as_bytes());
        put_bytes(&mut definition, b"");
        definition.push(0x0c);
        definition.extend_from_slice(&collation.to_le_bytes());
        definition.extend_from_slice(&255_u32.to_le_bytes());
        definition.push(kind.0);
        definition.extend_from_slice(&flags.to_le_bytes());
        definition.extend_from_slice(&[0, 0, 0]);
        Self { definition }
    }

    /// The same with the length that it claims: of `TINYINT(1)` it is 1.
    #[must_use]
    pub fn length(mut self, length: u32) -> Self {
        // Behind it: the type, the flags, the decimals and two bytes of filler.
        if let Some(end) = self.definition.len().checked_sub(6)
            && let Some(start) = end.checked_sub(4)
        {
            self.definition[start..end].copy_from_slice(&length.to_le_bytes());
        }
        self
    }

    /// Any bytes in place of a definition.
    pub fn raw(definition: impl Into<Vec<u8>>) -> Self {
        Self { definition: definition.into() }
    }

    pub(crate) fn definition(&self) -> &[u8] {
        &self.definition
    }
}

/// A result set.
#[derive(Clone)]
pub struct Rows {
    pub(crate) columns: Vec<Column>,
    /// The number of columns that is sent, where it is not the true one.
    claimed: Option<u64>,
    /// The payloads of the rows that are held.
    pub(crate) held: Vec<Box<[u8]>>,
    /// How many further rows are made, and how.
    pub(crate) made: Option<(u64, MakeRow)>,
}

/// Makes the row of this number.
pub(crate) type MakeRow = Arc<dyn Fn(u64, &mut Row<'_>) + Send + Sync>;

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.made.as_ref().map_or(0, |(count, _)| *count);
        write!(f, "Rows({} columns, {} rows)", self.columns.len(), self.held.len() as u64 + made)
    }
}

impl Rows {
    /// A result without rows.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), claimed: None, held: Vec::new(), made: None }
    }

    /// One more row. None is NULL.
    #[must_use]
    pub fn row(self, cells: impl IntoIterator<Item = Option<impl AsRef<[u8]>>>) -> Self {
        let mut payload = Vec::new();
        let mut row = Row(&mut payload);
        for cell in cells {
            match cell {
                Some(cell) => row.cell(cell.as_ref()),
                None => row.null(),
            };
        }
        self.raw_row(payload)
    }

    /// Any bytes in place of a row.
    #[must_use]
    pub fn raw_row(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.held.push(payload.into().into());
        self
    }

    /// So many further rows, each made when it is sent.
    #[must_use]
    pub fn made(self, count: u64, make: impl Fn(u64, &mut Row<'_>) + Send + Sync + 'static) -> Self {
        Self { made: Some((count, Arc::new(make))), ..self }
    }

    /// A number of columns that is not the true one.
    #[must_use]
    pub fn claiming_columns(self, count: u64) -> Self {
        Self { claimed: Some(count), ..self }
    }

    pub(crate) fn write_count(&self, bytes: &mut Vec<u8>) {
        put_integer(bytes, self.claimed.unwrap_or(self.columns.len() as u64));
    }
}

/// A row in the making.
#[derive(Debug)]
pub struct Row<'a>(pub(crate) &'a mut Vec<u8>);

impl Row<'_> {
    /// The next cell.
    pub fn cell(&mut self, content: &[u8]) -> &mut Self {
        put_bytes(self.0, content);
        self
    }

    /// The next cell: so many bytes, all the same.
    pub fn filled(&mut self, length: usize, byte: u8) -> &mut Self {
        put_integer(self.0, length as u64);
        self.0.resize(self.0.len() + length, byte);
        self
    }

    /// NULL as the next cell.
    pub fn null(&mut self) -> &mut Self {
        self.0.push(0xfb);
        self
    }
}
