// Text that comes from outside (file names, exceptions, failure messages, captions, names of levels, tokens) on its way
// to a terminal, a table, a page, a log or a message.
//
// Law: nothing here throws or fails on any bytes, and what comes out is UTF-8. Pure functions; thread-safe.
//   ToUtf8      for protobuf string fields and files: everything stays but bytes that are no text
//   Printable   for terminals, tables, pages and logs: besides, nothing that a terminal or browser obeys
//   Shortened   for what has a limit: cut between characters
//   CsvField    for tables that spreadsheets open
//   PrintableJson, for JSON that may reach a terminal
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loupe {

// Bytes of the well-formed UTF-8 character (RFC 3629: no surrogates, no overlong forms) at the front of `text`; 0 if
// there is none.
size_t CharacterLength(std::string_view text);

// Byte offset of the first byte that is not part of a well-formed character; npos if all are.
size_t FindNotUtf8(std::string_view text);

// Every byte that is not UTF-8 as "\xe9"; the rest as it is.
std::string ToUtf8(std::string_view text);

// At most `most_bytes` of ToUtf8(text): whole characters, with "…" at the end where something was cut off. Fewer than
// three bytes cannot hold the mark and give "".
std::string Shortened(std::string_view text, size_t most_bytes);

enum class LineBreaks {
  kEscaped,  // a line break is "\n" and a tab "\t": for a field, a cell, a name, a line of a log
  kKept,     // they stay (a carriage return before a line feed is dropped): for whole messages and pages
};

// ToUtf8, with control characters (C0, DEL, C1, with them every terminal escape), bidirectional controls (Unicode TR 9
// and 36), line and paragraph separators and invisible characters that make two names look alike written as "\x1b" or
// "\u202e". Joiners (U+200C, U+200D) stay: scripts and emoji need them.
std::string Printable(std::string_view text, LineBreaks breaks = LineBreaks::kEscaped);

// The same characters within JSON text that is already well-formed, as the \uXXXX escapes of JSON: its meaning does not
// change.
std::string PrintableJson(std::string_view json);

// One field of a CSV table (RFC 4180), Printable but for the line breaks that quotes can hold. A text that a
// spreadsheet would run as a formula (it begins with = + - @ or a blank before one of them) gets an apostrophe in
// front, which spreadsheets take for "this is text"; numbers and lone signs stay as they are.
std::string CsvField(std::string_view text);

// The access token in `text` (a file, a variable): on the first line that is not blank, without a byte order mark and
// blanks around it. INVALID_ARGUMENT: nothing there, quotation marks around it, or a character that no token has (a
// blank inside, whatever is not visible ASCII: what an HTTP header could not carry). The sentence names `source`, the
// place and the kind, and never a character of the token.
absl::StatusOr<std::string> TokenIn(std::string_view text, std::string_view source);

}  // namespace loupe
