// loupe-coordinator: keeps sweeps and their results, and hands trials to workers.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "common/clock.h"
#include "common/logging.h"
#include "coordinator/service/access.h"
#include "coordinator/service/server.h"
#include "coordinator/store/snapshots.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"

namespace {

using loupe::coordinator::AccessControl;

int Report(const absl::Status& status) {
  if (status.ok()) return 0;
  fmt::print(stderr, "loupe-coordinator: {}\n", std::string(status.message()));
  return 1;
}

// As many connections as the system lets this user have: the usual soft limit of 1,024 is less than a large fleet.
void RaiseFileLimit() {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) spdlog::warn("the limit of open files cannot be raised to {}", limit.rlim_max);
}

int Serve(const loupe::coordinator::ServerOptions& options, const loupe::coordinator::SnapshotOptions& snapshots) {
  // Blocked in every thread, and waited for in this one: no handler runs in the middle of something.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  RaiseFileLimit();
  absl::StatusOr<std::unique_ptr<loupe::coordinator::Server>> server = loupe::coordinator::Server::Start(options);
  if (!server.ok()) return Report(server.status());
  spdlog::info("listening on {}; data in '{}'; token in '{}/token'", (*server)->address(), options.data_folder,
               options.data_folder);
  std::optional<loupe::coordinator::SnapshotThread> snapshot_thread;
  if (!snapshots.to.empty()) snapshot_thread.emplace(snapshots);
  int received = 0;
  sigwait(&signals, &received);
  spdlog::info("stopping ({})", received == SIGTERM ? "SIGTERM" : "SIGINT");
  (*server)->Stop(absl::Seconds(5));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Keeps sweeps and their results, and hands trials to workers."};
  std::string log_level;
  loupe::coordinator::ServerOptions options;
  loupe::coordinator::SnapshotOptions snapshots;
  std::string backup_every = "1h";
  double lease_seconds = 30;
  double progress_minutes = 30;
  double max_artifact_mb = static_cast<double>(options.limits.max_artifact_bytes >> 20);
  app.add_option("--data", options.data_folder, "Folder of the database, the artifacts and the tokens")->required();
  app.add_option("--listen", options.listen, "host:port; port 0 takes a free one (see DATA/address)")->capture_default_str();
  app.add_option("--lease-seconds", lease_seconds, "Silence after which a worker's trials go to others")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 86400.0));
  app.add_option("--progress-minutes", progress_minutes, "Standstill after which a live worker's trial counts as failed")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 100000.0));
  app.add_option("--tls-certificate", options.certificate_file, "PEM certificate chain; turns TLS on");
  app.add_option("--tls-key", options.key_file, "PEM private key of the certificate");
  app.add_option("--tls-client-ca", options.client_ca_file, "PEM CA: clients must show a certificate that it signed");
  app.add_option("--calls-per-second", options.limits.people.per_second,
                 "Calls that one viewer or submitter token may make from one machine; 0 means no limit")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1e9));
  app.add_option("--worker-calls-per-second", options.limits.workers.per_second,
                 "The same for worker and admin tokens, which many workers share")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1e9));
  app.add_option("--max-artifact-mb", max_artifact_mb, "Largest file that a trial may hand over")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 1e9));
  app.add_option("--backup-to", snapshots.to, "Folder for regular snapshots of the data; none are made without it");
  app.add_option("--backup-every", backup_every, "Time between snapshots: 30m, 1h, …")->capture_default_str();
  app.add_option("--backup-keep", snapshots.keep, "How many snapshots are kept")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  app.add_option("--log-level", log_level, "trace, debug, info, warn, error or off (else LOUPE_LOG, else info)");
  app.require_subcommand(0, 1);
  app.fallthrough();

  CLI::App* token = app.add_subcommand("token", "Add or revoke access tokens");
  token->require_subcommand(1);
  std::string token_name;
  std::string token_role;
  double token_days = 0;
  CLI::App* add = token->add_subcommand("add", "Print a new token; only its digest is kept");
  add->add_option("--name", token_name, "Whose it is")->required();
  add->add_option("--role", token_role, "viewer, submitter, worker or admin")->required();
  add->add_option("--days", token_days, "Days until it expires; 0 means never")->check(CLI::Range(0.0, 36500.0));
  CLI::App* revoke = token->add_subcommand("revoke", "Remove a token, at once");
  revoke->add_option("--name", token_name, "Whose it is")->required();
  CLI11_PARSE(app, argc, argv);
  // Database, artifacts and tokens are this user's business.
  umask(077);
  // gRPC's own log repeats our sentences as dumps of its insides.
  setenv("GRPC_VERBOSITY", "NONE", /*replace=*/0);

  if (absl::Status status = loupe::InitLogging("loupe-coordinator", log_level); !status.ok()) return Report(status);
  if (add->parsed()) {
    absl::StatusOr<loupe::coordinator::Role> role = loupe::coordinator::ParseRole(token_role);
    if (!role.ok()) return Report(role.status());
    const absl::Duration lifetime = token_days == 0 ? absl::InfiniteDuration() : absl::Hours(24) * token_days;
    absl::StatusOr<std::string> made =
        AccessControl::AddToken(options.data_folder, token_name, *role, lifetime, loupe::SystemClock());
    if (made.ok()) fmt::print("{}\n", *made);
    return Report(made.status());
  }
  if (revoke->parsed()) return Report(AccessControl::RemoveToken(options.data_folder, token_name));
  options.limits.max_artifact_bytes = static_cast<int64_t>(max_artifact_mb) << 20;
  options.scheduler.lease = absl::Seconds(lease_seconds);
  options.scheduler.progress_timeout = absl::Minutes(progress_minutes);
  snapshots.data_folder = options.data_folder;
  const auto every = loupe::coordinator::ParseSnapshotInterval(backup_every);
  if (!every.ok()) return Report(every.status());
  snapshots.every = *every;
  return Serve(options, snapshots);
}
