#include "common/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"

namespace loupe {

struct Sha256::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~Impl() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
  if (impl_->context == nullptr || EVP_DigestInit_ex(impl_->context, EVP_sha256(), nullptr) != 1) std::abort();
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

Sha256& Sha256::Update(std::string_view bytes) {
  if (EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()) != 1) std::abort();
  return *this;
}

std::string Sha256::FinishHex() {
  std::array<unsigned char, 32> digest{};
  if (EVP_DigestFinal_ex(impl_->context, digest.data(), nullptr) != 1) std::abort();
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

std::string Sha256Hex(std::string_view bytes) { return Sha256().Update(bytes).FinishHex(); }

absl::StatusOr<std::string> Sha256HexOfFile(const std::string& path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) return absl::ErrnoToStatus(errno, "cannot read '" + path + "'");
  Sha256 digest;
  std::string block(1 << 20, '\0');
  while (const size_t got = std::fread(block.data(), 1, block.size(), file.get())) {
    digest.Update(std::string_view(block.data(), got));
  }
  if (std::ferror(file.get()) != 0) return absl::ErrnoToStatus(errno, "reading '" + path + "'");
  return digest.FinishHex();
}

}  // namespace loupe
