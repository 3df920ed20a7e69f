#include "common/credentials.h"

#include "common/private_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe {
namespace {

constexpr std::string_view kAddress = "Address:";
constexpr std::string_view kToken = "Token:";
constexpr std::string_view kBegin = "-----BEGIN ";
constexpr std::string_view kEnd = "-----END ";

std::string_view WithoutSpace(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

}  // namespace

std::string ToText(const Credentials& credentials) {
  return fmt::format(
      "# Loupe credentials{}{}. Whoever has this file may do what its owner may: keep it private (chmod 600).\n"
      "{} {}\n{} {}\n{}{}{}",
      credentials.comment.empty() ? "" : " of ", credentials.comment, kAddress, credentials.address, kToken,
      credentials.token, credentials.certificate, credentials.key, credentials.authority);
}

absl::StatusOr<Credentials> ParseCredentials(std::string_view text, const std::string& path) {
  Credentials credentials;
  std::string* block = nullptr;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = WithoutSpace(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.starts_with(kBegin)) {
      const bool is_key = line.find("PRIVATE KEY") != std::string_view::npos;
      block = is_key ? &credentials.key : credentials.key.empty() ? &credentials.certificate : &credentials.authority;
    }
    if (block != nullptr) {
      block->append(line).append("\n");
      if (line.starts_with(kEnd)) block = nullptr;
    } else if (line.starts_with(kAddress)) {
      credentials.address = WithoutSpace(line.substr(kAddress.size()));
    } else if (line.starts_with(kToken)) {
      credentials.token = WithoutSpace(line.substr(kToken.size()));
    }
  }
  const char* missing = credentials.address.empty()                                  ? "line 'Address: host:port'"
                        : credentials.token.empty()                                  ? "line 'Token: …'"
                        : block != nullptr                                           ? "end of its last PEM block"
                        : credentials.certificate.empty() != credentials.key.empty() ? "key for its certificate"
                        : credentials.authority.empty() != credentials.key.empty()
                            ? "authority's certificate after the key"
                            : nullptr;
  if (missing != nullptr) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is not a credentials file: it has no {}; "
                    "'loupe-coordinator token add … --output FILE' makes one",
                    path, missing));
  }
  return credentials;
}

absl::StatusOr<Credentials> ReadCredentials(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadPrivateFile(path, "a credentials file"));
  return ParseCredentials(text, path);
}

}  // namespace loupe
