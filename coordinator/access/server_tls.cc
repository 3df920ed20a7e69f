#include "coordinator/access/server_tls.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "common/atomic_file.h"
#include "common/logging.h"
#include "common/private_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::access {
namespace {

// A key that the operator keeps, perhaps behind a link and readable by a group; never by everybody.
absl::Status CheckKeyFile(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0)
    return absl::ErrnoToStatus(errno, fmt::format("cannot read '{}', the TLS key", path));
  if ((info.st_mode & S_IROTH) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format("everybody may read '{}', the TLS key: run chmod 600 on it", path));
}

}  // namespace

bool IsLoopback(const std::string& listen) {
  const std::string host = listen.substr(0, listen.rfind(':'));
  return host == "localhost" || host == "[::1]" || host == "::1" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos);
}

absl::StatusOr<std::unique_ptr<ServerTls>> ServerTls::Open(const TlsOptions& options, const std::string& listen,
                                                           const std::string& data_folder) {
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return absl::InvalidArgumentError("TLS needs both --tls-certificate and --tls-key");
  }
  if (options.certificate_file.empty() && !options.client_ca_file.empty()) {
    return absl::InvalidArgumentError("--tls-client-ca needs --tls-certificate and --tls-key");
  }
  const bool reachable = !IsLoopback(listen);
  if (!options.client_ca_file.empty() && options.clients_without_certificate) {
    return absl::InvalidArgumentError(
        "--tls-client-ca demands certificates of clients, --clients-without-certificate does not: give one");
  }
  std::unique_ptr<ServerTls> tls(new ServerTls(options, data_folder + "/tls"));
  if (!reachable && options.certificate_file.empty()) {
    return tls;
  }
  tls->on_ = true;
  tls->demands_certificate_ = !options.client_ca_file.empty() || (reachable && !options.clients_without_certificate);
  if (options.certificate_file.empty() || (tls->demands_certificate_ && options.client_ca_file.empty())) {
    LOUPE_ASSIGN_OR_RETURN(tls->authority_, Authority::OpenOrMake(data_folder));
  } else if (::mkdir(tls->folder_.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::ErrnoToStatus(errno, fmt::format("cannot make '{}'", tls->folder_));
  }
  tls->names_ = NamesOfThisMachine();
  tls->names_.insert(tls->names_.end(), options.names.begin(), options.names.end());
  tls->fingerprint_ = tls->Fingerprint();
  LOUPE_RETURN_IF_ERROR(tls->WriteLive());
  return tls;
}

absl::StatusOr<std::string> ServerTls::Identity() const {
  if (options_.certificate_file.empty()) {
    LOUPE_ASSIGN_OR_RETURN(const Certificate made, authority_->IssueServer(names_));
    return made.certificate + made.key;
  }
  LOUPE_RETURN_IF_ERROR(CheckKeyFile(options_.key_file));
  LOUPE_ASSIGN_OR_RETURN(const std::string certificate, ReadFile(options_.certificate_file));
  LOUPE_ASSIGN_OR_RETURN(const std::string key, ReadFile(options_.key_file));
  LOUPE_RETURN_IF_ERROR(
      Annotate(CheckPair(certificate, key), fmt::format("'{}', '{}'", options_.certificate_file, options_.key_file)));
  return fmt::format("{}\n{}", certificate, key);
}

absl::StatusOr<std::string> ServerTls::ClientRoots() const {
  if (options_.client_ca_file.empty()) return authority_->certificate();
  LOUPE_ASSIGN_OR_RETURN(const std::string roots, ReadFile(options_.client_ca_file));
  LOUPE_RETURN_IF_ERROR(Annotate(EndOfCertificate(roots).status(), fmt::format("'{}'", options_.client_ca_file)));
  return roots;
}

absl::Status ServerTls::WriteLive() {
  LOUPE_ASSIGN_OR_RETURN(const std::string identity, Identity());
  if (demands_certificate_) {
    LOUPE_ASSIGN_OR_RETURN(const std::string roots, ClientRoots());
    LOUPE_RETURN_IF_ERROR(WritePrivateFile(folder_ + "/clients.pem", roots));
  }
  return WritePrivateFile(folder_ + "/live.pem", identity);
}

std::string ServerTls::Fingerprint() const {
  std::string text;
  for (const std::string& path : {options_.certificate_file, options_.key_file, options_.client_ca_file}) {
    struct stat info {};
    if (path.empty() || ::stat(path.c_str(), &info) != 0) continue;
    text += fmt::format("{} {}.{} {};", path, info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ino);
  }
  return text;
}

void ServerTls::Refresh() {
  if (!on()) return;
  const std::string now = Fingerprint();
  bool due = now != fingerprint_;
  if (options_.certificate_file.empty()) {
    const absl::StatusOr<std::string> live = ReadFile(folder_ + "/live.pem");
    const absl::StatusOr<absl::Time> end = live.ok() ? EndOfCertificate(*live) : live.status();
    due = due || !end.ok() || *end - absl::Now() < kServerCertificateLifetime / 3;
  }
  if (!due) return;
  fingerprint_ = now;
  const absl::Status status = WriteLive();
  if (status.ok()) {
    LogInfo("TLS certificates were read again");
  } else {
    LogError("{}; the TLS certificates are what they were before", std::string(status.message()));
  }
}

}  // namespace loupe::coordinator::access
