// Where a command's data goes, and in which form.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::cli {

// --format, among `formats` (the first is the default).
void AddFormatOption(CLI::App& command, std::string& format, std::vector<std::string> formats);

// AddFormatOption, and --output: without --format, a file's ending that is the name of one of the formats chooses it
// ("report.html"). Both strings must live until `command` has run.
void AddFormatAndOutputOptions(CLI::App& command, std::string& format, std::string& output,
                               std::vector<std::string> formats);

// The bytes of an input file named on the command line; "-" is standard input. A file that cannot be read is bad input
// (INVALID_ARGUMENT), and the sentence names it.
absl::StatusOr<std::string> ReadInput(const std::string& path);

// Writes to `path`, or to stdout when it is empty. A file appears whole or not at all. The error names the file.
// The text is made Printable (common/text.h), line breaks kept: names and messages in it come from others.
absl::Status WriteOutput(std::string_view text, const std::string& path);

// The same for what is no text of ours: an artifact, a sweep file. Not a byte is changed.
absl::Status WriteBytes(std::string_view bytes, const std::string& path);

}  // namespace loupe::cli
