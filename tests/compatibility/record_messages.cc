// loupe-record-messages: stands between a worker and its coordinator and writes down what they say, a JSON object a
// line: {"method": "loupe.v1.WorkerService/Synchronize", "request": true, "base64": "…"}. Ends with SIGTERM.
#include <absl/strings/escaping.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "common/atomic_file.h"
#include "tests/testing/rewriting_proxy.h"

int main(int argc, char** argv) {
  CLI::App app{"Records the messages between a worker and its coordinator."};
  std::string to, out, address_file;
  app.add_option("--to", to)->required();
  app.add_option("--out", out)->required();
  app.add_option("--address-file", address_file)->required();
  CLI11_PARSE(app, argc, argv);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  std::ofstream file(out);
  std::mutex mutex;
  const loupe::testing::RewritingProxy proxy(
      grpc::CreateChannel(to, grpc::InsecureChannelCredentials()),
      [&](const std::string& method, bool is_request, std::string bytes) {
        nlohmann::ordered_json line = {
            {"method", method},
            {"request", is_request},
            {"base64", std::string(absl::Base64Escape(absl::string_view(bytes.data(), bytes.size())))}};
        const std::lock_guard<std::mutex> lock(mutex);
        file << line.dump() << '\n' << std::flush;
        return bytes;
      });
  if (!loupe::WriteFileAtomically(address_file, proxy.address() + "\n").ok()) return 1;
  int received = 0;
  sigwait(&signals, &received);
  return file.good() ? 0 : 1;
}
