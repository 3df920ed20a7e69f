// Certificates made on the spot: no key lies in the repository.
#pragma once

#include <string>

namespace loupe::testing {

// PEM texts.
struct Certificate {
  std::string certificate;
  std::string key;
};

// A certificate authority of its own (P-256, valid for a day).
Certificate MakeAuthority(const std::string& name);

// Signed by `authority`, for localhost and 127.0.0.1. `valid_days` may be negative: expired.
Certificate MakeCertificate(const Certificate& authority, const std::string& name, int valid_days = 1);

}  // namespace loupe::testing
