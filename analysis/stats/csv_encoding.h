// The text of a CSV file in whatever encoding it was saved: tables come out of spreadsheets, instruments and other
// systems.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loupe::analysis::stats {

// The bytes as UTF-8 without a byte order mark: `bytes` itself where they are that already, else converted into
// `storage`. The encoding is the one named (any that iconv knows: "windows-1252", "latin1", "shift_jis", …); when
// `encoding` is empty, that of a byte order mark, UTF-16 or UTF-32 where the zero bytes lie so, else UTF-8.
// INVALID_ARGUMENT, with the way out: an encoding that is not known, bytes that are not text in it (the sentence names
// the line; a one-byte encoding is never guessed, since each of them reads everything), a spreadsheet or an archive
// instead of text.
absl::StatusOr<std::string_view> DecodeCsv(std::string_view bytes, const std::string& encoding, std::string& storage);

}  // namespace loupe::analysis::stats
