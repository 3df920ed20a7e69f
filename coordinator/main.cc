// loupe-coordinator: keeps sweeps and their results, and hands trials to workers.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/logging.h"
#include "common/man_page.h"
#include "common/random_source.h"
#include "common/text.h"
#include "common/trace/span_exporter.h"
#include "coordinator/api/analysis_job.h"
#include "coordinator/server/server.h"
#include "coordinator/store/upkeep/snapshots.h"
#include "coordinator/token_command.h"
#include "fmt/format.h"

namespace {

// Of the manual page.
constexpr char kFiles[] =
    "In the folder of --data: coordinator.db and artifacts are the results; address, http_address, token and credentials "
    "are for clients, while it runs; webhooks.json, by the operator, says whom to tell what.";

int Report(const absl::Status& status) {
  if (status.ok()) return 0;
  fmt::print(stderr, "loupe-coordinator: {}\n",
             loupe::Printable(std::string(status.message()), loupe::LineBreaks::kKept));
  return 1;
}

// As many connections as the system lets this user have: the usual soft limit of 1,024 is less than a large fleet.
void RaiseFileLimit() {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
    loupe::LogWarning("the limit of open files cannot be raised to {}", limit.rlim_max);
}

void WarnOfSizeLimit() {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  loupe::LogWarning(
      "files of this process may grow to {} MiB only (ulimit -f): the database and large artifacts will meet that limit",
      limit.rlim_cur >> 20);
}

// Systemd's sockets stay while the coordinator is started again, and go before what the command line says.
void WarnOfUnused(const CLI::Option* option, const loupe::coordinator::access::ListenSockets& handed) {
  if (handed.empty() || option->count() == 0 || option->as<std::string>() == handed.address()) return;
  loupe::LogWarning("{} {} is not used: a socket at {} was handed over, and goes before it", option->get_name(),
                    option->as<std::string>(), handed.address());
}

int Serve(loupe::coordinator::server::ServerOptions options,
          const loupe::coordinator::store::upkeep::SnapshotOptions& snapshots,
          loupe::trace::SpanExporterOptions tracing, loupe::coordinator::access::HandedSockets handed) {
  // Blocked in every thread, and waited for in this one: no handler runs in the middle of something.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  // A file that reaches a limit on file sizes is an error of that write, not the end of the coordinator.
  signal(SIGXFSZ, SIG_IGN);
  WarnOfSizeLimit();
  RaiseFileLimit();
  const auto spans = loupe::trace::SpanExporter::Start(std::move(tracing));
  if (!spans.ok()) return Report(spans.status());
  options.spans = spans->get();
  const char* opened_for_grpc = handed.grpc.empty() ? "" : " (a socket that was handed over)";
  const char* opened_for_http = handed.http.empty() ? "" : " (a socket that was handed over)";
  absl::StatusOr<std::unique_ptr<loupe::coordinator::server::Server>> server =
      loupe::coordinator::server::Server::Start(options, loupe::SystemClock(), loupe::SystemRandom(),
                                                std::move(handed));
  if (!server.ok()) return Report(server.status());
  loupe::LogInfo("listening on {}{}; data in '{}'; token in '{}/token'", (*server)->address(), opened_for_grpc,
                 options.data_folder, options.data_folder);
  if (!(*server)->http_address().empty()) loupe::LogInfo("HTTP at {}{}", (*server)->http_address(), opened_for_http);
  std::optional<loupe::coordinator::store::upkeep::SnapshotThread> snapshot_thread;
  if (!snapshots.to.empty()) snapshot_thread.emplace(snapshots);
  int received = 0;
  sigwait(&signals, &received);
  loupe::LogInfo("stopping ({})", received == SIGTERM ? "SIGTERM" : "SIGINT");
  (*server)->Stop(absl::Seconds(5));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Keeps sweeps and their results, and hands trials to workers."};
  app.set_version_flag("--version", "loupe-coordinator " LOUPE_VERSION "\nbuild: " LOUPE_BUILD);
  std::string log_level, log_format;
  loupe::coordinator::server::ServerOptions options;
  loupe::coordinator::store::upkeep::SnapshotOptions snapshots;
  loupe::trace::SpanExporterOptions tracing{.endpoint = "", .service = "loupe-coordinator", .version = LOUPE_VERSION};
  int64_t analysis_memory_mb = options.analysis.memory_bytes >> 20;
  std::string backup_every = "1h";
  double lease_seconds = 30;
  double progress_minutes = 30;
  double max_artifact_mb = static_cast<double>(options.limits.max_artifact_bytes >> 20);
  app.add_option("--data", options.data_folder, "Folder of the database, the artifacts and the tokens")->required();
  const CLI::Option* listen =
      app.add_option(
             "--listen", options.listen,
             "host:port; port 0 takes a free one (see DATA/address). A socket 'grpc' that systemd hands over goes "
             "before it")
          ->capture_default_str();
  const CLI::Option* http_listen =
      app.add_option("--http-listen", options.http_listen,
                     "host:port of the HTTP interface, or off (default: loopback, the port after gRPC's or a free one; "
                     "see DATA/http_address). A socket 'http' that systemd hands over goes before it");
  app.add_option("--lease-seconds", lease_seconds, "Silence after which a worker's trials go to others")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 86400.0));
  app.add_option("--progress-minutes", progress_minutes,
                 "Standstill after which a live worker's trial counts as failed")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 100000.0));
  app.add_option("--tls-certificate", options.tls.certificate_file,
                 "PEM certificate chain; turns TLS on (off loopback the coordinator issues its own without it)");
  app.add_option("--tls-key", options.tls.key_file, "PEM private key of the certificate");
  app.add_option(
      "--tls-client-ca", options.tls.client_ca_file,
      "PEM CA: clients must show a certificate that it signed (off loopback the default is the coordinator's own CA)");
  app.add_option("--tls-name", options.tls.names, "A further name or address by which clients call this coordinator");
  app.add_flag(
      "--clients-without-certificate", options.tls.clients_without_certificate,
      "Off loopback: let clients in that show no certificate; read 'What remains' in docs/reliability.md first");
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
  app.add_option("--analysis-processes", options.analysis.processes, "Analyses and reports that are computed at a time")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--analysis-memory-mb", analysis_memory_mb, "Memory that one of them may take")
      ->capture_default_str()
      ->check(CLI::Range(64, 1 << 24));
  app.add_option("--backup-to", snapshots.to, "Folder for regular snapshots of the data; none are made without it");
  app.add_option("--backup-every", backup_every, "Time between snapshots: 30m, 1h, …")->capture_default_str();
  app.add_option("--backup-keep", snapshots.keep, "How many snapshots are kept")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  app.add_option(
      "--notify-command", options.notify_command,
      "What takes e-mails on its standard input (webhooks.json): '/usr/sbin/sendmail -t -i'; no shell runs it");
  app.add_option("--otlp-endpoint", tracing.endpoint,
                 "Collector that gets the spans of traced calls and attempts: http://localhost:4318 (else "
                 "OTEL_EXPORTER_OTLP_ENDPOINT, else none)");
  app.add_option("--log-level", log_level, "trace, debug, info, warn, error or off (else LOUPE_LOG, else info)");
  app.add_option("--log-format", log_format, "text, or json: an object per line (else LOUPE_LOG_FORMAT, else text)")
      ->check(CLI::IsMember({"text", "json"}));
  app.require_subcommand(0, 1);
  app.fallthrough();

  // Not for people: the coordinator runs itself so for each analysis (analysis_runner.h).
  CLI::App* analyse = app.add_subcommand("analyse", "")->group("");
  int64_t memory_mb = 0;
  analyse->add_option("--memory-mb", memory_mb);
  int token_exit_code = -1;
  loupe::coordinator::AddTokenCommand(app, options.data_folder, token_exit_code);
  if (loupe::PrintedManPage(argc, argv, app,
                            {.name = "loupe-coordinator",
                             .summary = "keeps sweeps and their results, and hands trials to workers",
                             .version = LOUPE_VERSION,
                             .date = "",
                             .sections = {{"FILES", kFiles}, {"SEE ALSO", "loupe(1), loupe-worker(1)"}}})) {
    return 0;
  }
  CLI11_PARSE(app, argc, argv);
  if (token_exit_code >= 0) return token_exit_code;
  if (analyse->parsed()) return loupe::coordinator::api::RunAnalysisProcess(options.data_folder, memory_mb << 20);
  // Database, artifacts and tokens are this user's business.
  umask(077);
  // gRPC's own log repeats our sentences as dumps of its insides.
  setenv("GRPC_VERBOSITY", "NONE", /*replace=*/0);

  if (absl::Status status = loupe::InitLogging("loupe-coordinator", log_level, log_format); !status.ok())
    return Report(status);
  options.limits.max_artifact_bytes = static_cast<int64_t>(max_artifact_mb) << 20;
  options.analysis.memory_bytes = analysis_memory_mb << 20;
  options.scheduler.lease = absl::Seconds(lease_seconds);
  options.scheduler.progress_timeout = absl::Minutes(progress_minutes);
  snapshots.data_folder = options.data_folder;
  const auto every = loupe::coordinator::store::upkeep::ParseSnapshotInterval(backup_every);
  if (!every.ok()) return Report(every.status());
  snapshots.every = *every;
  absl::StatusOr<loupe::coordinator::access::HandedSockets> handed = loupe::coordinator::access::TakeHandedSockets();
  if (!handed.ok()) return Report(handed.status());
  WarnOfUnused(listen, handed->grpc);
  WarnOfUnused(http_listen, handed->http);
  return Serve(std::move(options), snapshots, std::move(tracing), *std::move(handed));
}
