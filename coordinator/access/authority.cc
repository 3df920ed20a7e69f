#include "coordinator/access/authority.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "common/atomic_file.h"
#include "common/private_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::access {
namespace {

using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using X509Ptr = std::unique_ptr<X509, decltype(&X509_free)>;
using BioPtr = std::unique_ptr<BIO, decltype(&BIO_free)>;

constexpr absl::Duration kAuthorityLifetime = absl::Hours(24 * 365 * 10);
constexpr absl::Duration kBackdated = absl::Hours(24);

std::string AuthorityPath(const std::string& folder) { return folder + "/tls/authority.pem"; }

BioPtr Reading(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free);
}
X509Ptr ParseCertificate(const std::string& pem) {
  return X509Ptr(PEM_read_bio_X509(Reading(pem).get(), nullptr, nullptr, nullptr), &X509_free);
}
KeyPtr ParseKey(const std::string& pem) {
  // An empty passphrase, or OpenSSL would ask for one on the terminal.
  char no_passphrase[] = "";
  return KeyPtr(PEM_read_bio_PrivateKey(Reading(pem).get(), nullptr, nullptr, no_passphrase), &EVP_PKEY_free);
}

template <typename Write>
std::string ToPem(Write write) {
  const BioPtr bio(BIO_new(BIO_s_mem()), &BIO_free);
  if (write(bio.get()) != 1) return {};
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &bytes);
  return std::string(bytes, static_cast<size_t>(size));
}

bool AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  const bool added = extension != nullptr && X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added;
}

struct Draft {
  std::string name;
  absl::Duration lifetime;
  std::vector<std::pair<int, std::string>> extensions;
};

// Signed by `issuer` with `issuer_key`, or by itself where there is none.
absl::StatusOr<Certificate> Issue(const Draft& draft, X509* issuer, EVP_PKEY* issuer_key) {
  const KeyPtr key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
  const X509Ptr certificate(X509_new(), &X509_free);
  unsigned char serial[16];
  bool good = key != nullptr && certificate != nullptr && RAND_bytes(serial, sizeof serial) == 1;
  if (good) {
    X509* made = certificate.get();
    // Positive and of full length.
    serial[0] = static_cast<unsigned char>((serial[0] & 0x3f) | 0x40);
    BIGNUM* number = BN_bin2bn(serial, sizeof serial, nullptr);
    good = X509_set_version(made, 2) == 1 && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(made)) != nullptr;
    BN_free(number);
    X509_gmtime_adj(X509_getm_notBefore(made), -absl::ToInt64Seconds(kBackdated));
    X509_gmtime_adj(X509_getm_notAfter(made), absl::ToInt64Seconds(draft.lifetime));
    good = good && X509_set_pubkey(made, key.get()) == 1 &&
           X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>(draft.name.c_str()), -1, -1, 0) == 1;
    X509* signer = issuer != nullptr ? issuer : made;
    good = good && X509_set_issuer_name(made, X509_get_subject_name(signer)) == 1;
    for (const auto& [nid, value] : draft.extensions) good = good && AddExtension(made, signer, nid, value);
    good = good && X509_sign(made, issuer_key != nullptr ? issuer_key : key.get(), EVP_sha256()) > 0;
  }
  Certificate result;
  if (good) {
    result.certificate = ToPem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate.get()); });
    result.key = ToPem(
        [&](BIO* bio) { return PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  }
  if (result.certificate.empty() || result.key.empty()) {
    return absl::InternalError(fmt::format("OpenSSL could not make a certificate for '{}'", draft.name));
  }
  return result;
}

bool IsAddress(const std::string& name) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, name.c_str(), bytes) == 1 || inet_pton(AF_INET6, name.c_str(), bytes) == 1;
}

// For a subject alternative name: what could end the list or start another item is no host name.
bool IsHostName(const std::string& name) {
  return !name.empty() && name.size() <= 253 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
           c == '*';
  });
}

}  // namespace

absl::StatusOr<Authority> Authority::Open(const std::string& folder) {
  const std::string path = AuthorityPath(folder);
  LOUPE_ASSIGN_OR_RETURN(const std::string text,
                         ReadPrivateFile(path, "the key of the coordinator's certificate authority"));
  const size_t key = text.find("-----BEGIN PRIVATE KEY");
  Certificate own{text.substr(0, key), key == std::string::npos ? "" : text.substr(key)};
  if (!CheckPair(own.certificate, own.key).ok()) {
    return absl::InvalidArgumentError(fmt::format(
        "'{}' does not hold a certificate and its key: put a copy back, or delete it, start the coordinator, and hand out new "
        "credentials",
        path));
  }
  return Authority(std::move(own));
}

absl::StatusOr<Authority> Authority::OpenOrMake(const std::string& folder) {
  absl::StatusOr<Authority> found = Open(folder);
  if (!absl::IsNotFound(found.status())) return found;
  if (::mkdir((folder + "/tls").c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::ErrnoToStatus(errno, fmt::format("cannot make '{}/tls'", folder));
  }
  // A name of its own for each, so that a client with the credentials of another coordinator is told apart.
  unsigned char id[4] = {};
  RAND_bytes(id, sizeof id);
  LOUPE_ASSIGN_OR_RETURN(const Certificate own,
                         Issue({fmt::format("Loupe authority {:02x}{:02x}{:02x}{:02x}", id[0], id[1], id[2], id[3]),
                                kAuthorityLifetime,
                                {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                                 {NID_key_usage, "critical,keyCertSign,cRLSign"},
                                 {NID_subject_key_identifier, "hash"}}},
                               nullptr, nullptr));
  LOUPE_RETURN_IF_ERROR(WritePrivateFile(AuthorityPath(folder), own.certificate + own.key));
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(folder + "/tls/ca.pem", own.certificate));
  return Authority(own);
}

absl::StatusOr<Certificate> Authority::IssueServer(const std::vector<std::string>& names) const {
  std::string alternatives;
  for (const std::string& name : names) {
    if (!IsAddress(name) && !IsHostName(name))
      return absl::InvalidArgumentError(fmt::format("'{}' is no host's name or address", name));
    alternatives += fmt::format("{}{}:{}", alternatives.empty() ? "" : ",", IsAddress(name) ? "IP" : "DNS", name);
  }
  return Issue({"Loupe coordinator",
                kServerCertificateLifetime,
                {{NID_basic_constraints, "critical,CA:FALSE"},
                 {NID_key_usage, "critical,digitalSignature"},
                 {NID_ext_key_usage, "serverAuth"},
                 {NID_subject_alt_name, alternatives}}},
               ParseCertificate(own_.certificate).get(), ParseKey(own_.key).get());
}

absl::StatusOr<Certificate> Authority::IssueClient(std::string_view name, absl::Duration lifetime) const {
  return Issue({std::string(name.substr(0, 64)),
                std::min(lifetime, kLongestClientCertificate),
                {{NID_basic_constraints, "critical,CA:FALSE"},
                 {NID_key_usage, "critical,digitalSignature"},
                 {NID_ext_key_usage, "clientAuth"}}},
               ParseCertificate(own_.certificate).get(), ParseKey(own_.key).get());
}

absl::StatusOr<absl::Time> EndOfCertificate(const std::string& pem) {
  const X509Ptr certificate = ParseCertificate(pem);
  tm end{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end) != 1) {
    return absl::InvalidArgumentError("there is no PEM certificate");
  }
  return absl::FromTM(end, absl::UTCTimeZone());
}

absl::Status CheckPair(const std::string& certificate_pem, const std::string& key_pem) {
  const X509Ptr certificate = ParseCertificate(certificate_pem);
  if (certificate == nullptr) return absl::InvalidArgumentError("there is no PEM certificate");
  const KeyPtr key = ParseKey(key_pem);
  if (key == nullptr) return absl::InvalidArgumentError("there is no PEM private key without a passphrase");
  if (X509_check_private_key(certificate.get(), key.get()) == 1) return absl::OkStatus();
  return absl::InvalidArgumentError("certificate and key do not belong together");
}

std::vector<std::string> NamesOfThisMachine() {
  std::vector<std::string> names = {"localhost", "127.0.0.1", "::1"};
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) == 0 && IsHostName(host)) names.emplace_back(host);
  ifaddrs* found = nullptr;
  if (::getifaddrs(&found) != 0) return names;
  for (const ifaddrs* interface = found; interface != nullptr; interface = interface->ifa_next) {
    if (interface->ifa_addr == nullptr || (interface->ifa_flags & IFF_LOOPBACK) != 0) continue;
    char text[INET6_ADDRSTRLEN] = {};
    const int family = interface->ifa_addr->sa_family;
    const void* address =
        family == AF_INET
            ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(interface->ifa_addr)->sin_addr)
        : family == AF_INET6
            ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(interface->ifa_addr)->sin6_addr)
            : nullptr;
    if (address != nullptr && inet_ntop(family, address, text, sizeof text) != nullptr) names.emplace_back(text);
  }
  ::freeifaddrs(found);
  return names;
}

}  // namespace loupe::coordinator::access
