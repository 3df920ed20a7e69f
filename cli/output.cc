#include "cli/output.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "common/atomic_file.h"
#include "common/text.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::cli {

void AddFormatOption(CLI::App& command, std::string& format, std::vector<std::string> formats) {
  format = formats.front();
  command.add_option("--format", format, fmt::format("How data is printed: {}", fmt::join(formats, ", ")))
      ->check(CLI::IsMember(formats))
      ->capture_default_str();
}

void AddFormatAndOutputOptions(CLI::App& command, std::string& format, std::string& output,
                               std::vector<std::string> formats) {
  AddFormatOption(command, format, formats);
  command.add_option("--output,-o", output,
                     "File to write instead of standard output; without --format, its ending says how");
  command.parse_complete_callback([&command, &output, &format, formats = std::move(formats)] {
    const std::string ending = std::filesystem::path(output).extension().string();
    if (command.count("--format") > 0 || ending.empty()) return;
    const auto named = std::find(formats.begin(), formats.end(), ending.substr(1));
    if (named != formats.end()) format = *named;
  });
}

absl::StatusOr<std::string> ReadInput(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path == "-" ? "/dev/stdin" : path);
  if (!text.ok()) return absl::InvalidArgumentError(text.status().message());
  return text;
}

absl::Status WriteOutput(std::string_view text, const std::string& path) {
  return WriteBytes(Printable(text, LineBreaks::kKept), path);
}

absl::Status WriteBytes(std::string_view bytes, const std::string& path) {
  if (!path.empty()) return WriteFileAtomically(path, bytes);
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size() || std::fflush(stdout) != 0) {
    return absl::ResourceExhaustedError("cannot write to standard output: is the disk full or the pipe closed?");
  }
  return absl::OkStatus();
}

}  // namespace loupe::cli
