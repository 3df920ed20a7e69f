#include "worker/agent/enrolment.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "common/credentials.h"
#include "common/ids.h"
#include "common/logging.h"
#include "common/private_file.h"
#include "common/random_source.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "loupe/v1/access.grpc.pb.h"

namespace loupe::worker::agent {
namespace {

constexpr char kEnding[] = ".pem";
constexpr int kTries = 30;
constexpr std::chrono::seconds kBetweenTries{2};
constexpr std::chrono::hours kBetweenLooks{1};
constexpr absl::Duration kRenewAfter = absl::Hours(24);

// -1 when another process holds it.
int LockOf(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0 || ::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  ::close(fd);
  return -1;
}

std::string RandomDigits(size_t count) { return ToHex(SystemRandom().NextToken()).substr(0, count); }

// The identities of this host that the folder has, sorted.
std::vector<std::string> IdsOf(const std::string& folder, const std::string& host) {
  std::vector<std::string> ids;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string stem = entry.path().stem().string();
    if (entry.path().extension() == kEnding && stem.starts_with(host + "-")) ids.push_back(stem);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsResourceExhausted(status);
}

absl::StatusOr<v1::WorkerCredentials> CallEnrol(const clients::rpc::ConnectOptions& enrolment,
                                                const v1::EnrolRequest& request) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection,
                         clients::rpc::Connection::Open(enrolment));
  const auto stub = v1::AccessService::NewStub(connection->channel());
  absl::Status status;
  for (int i = 0; i < kTries; ++i) {
    v1::WorkerCredentials response;
    grpc::ClientContext context;
    connection->Prepare(context);
    status = connection->Check(stub->Enrol(&context, request, &response));
    if (status.ok()) return response;
    if (!MayPass(status)) return status;
    LogWarning("not enrolled yet ({}); trying again", std::string(status.message()));
    std::this_thread::sleep_for(kBetweenTries);
  }
  return status;
}

absl::Status Store(const std::string& file, Credentials credentials, const v1::WorkerCredentials& given) {
  if (!given.certificate().empty()) {
    credentials.certificate = given.certificate();
    credentials.key = given.key();
    if (!given.authority().empty()) credentials.authority = given.authority();
  }
  return WritePrivateFile(file, ToText(credentials));
}

absl::Status EnrolAs(const clients::rpc::ConnectOptions& enrolment, const std::string& id, const std::string& file) {
  // The token is on the disk before the coordinator hears of it: an answer that is lost, or a crash, costs no second
  // enrolment.
  const std::string pending = file + ".pending";
  absl::StatusOr<std::string> token = ReadPrivateFile(pending, "the token of an enrolment that was cut off");
  if (!token.ok()) {
    token = RandomDigits(32) + RandomDigits(32);
    LOUPE_RETURN_IF_ERROR(WritePrivateFile(pending, *token));
  }
  Credentials credentials{.comment = fmt::format("the worker '{}'", id), .address = enrolment.address, .token = *token};
  if (!enrolment.ca_file.empty()) {
    // The certificates' authority: of a credentials file the part behind the key.
    if (enrolment.ca_file == enrolment.credentials_file) {
      LOUPE_ASSIGN_OR_RETURN(const Credentials bundle, ReadCredentials(enrolment.credentials_file));
      credentials.authority = bundle.authority;
    } else {
      LOUPE_ASSIGN_OR_RETURN(credentials.authority, ReadFile(enrolment.ca_file));
    }
  }
  v1::EnrolRequest request;
  request.set_worker_id(id);
  request.set_token_sha256(Sha256Hex(*token));
  LOUPE_ASSIGN_OR_RETURN(const v1::WorkerCredentials given, CallEnrol(enrolment, request));
  if (given.certificate().empty()) credentials.authority.clear();
  LOUPE_RETURN_IF_ERROR(Store(file, credentials, given));
  ::unlink(pending.c_str());
  LogInfo("enrolled as '{}'; credentials in '{}'", id, file);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Identity>> Identity::Take(const clients::rpc::ConnectOptions& enrolment,
                                                         const std::string& data_folder, const std::string& id,
                                                         const std::string& host) {
  const std::string folder = data_folder + "/credentials";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::FailedPreconditionError(fmt::format("cannot make '{}': {}", folder, error.message()));
  std::vector<std::string> candidates = {id};
  if (id.empty()) {
    candidates = IdsOf(folder, host);
    candidates.push_back(fmt::format("{}-{}", host, RandomDigits(4)));
  }
  for (const std::string& candidate : candidates) {
    LOUPE_RETURN_IF_ERROR(WorkerId::FromId(candidate).status());
    const std::string stem = fmt::format("{}/{}", folder, candidate);
    const int lock = LockOf(stem + ".lock");
    if (lock < 0) continue;
    std::unique_ptr<Identity> identity(new Identity(candidate, stem + kEnding, lock));
    const absl::StatusOr<Credentials> own = ReadCredentials(identity->file());
    if (absl::IsNotFound(own.status())) {
      LOUPE_RETURN_IF_ERROR(EnrolAs(enrolment, candidate, identity->file()));
    } else if (!own.ok()) {
      return own.status();
    }
    return identity;
  }
  return absl::FailedPreconditionError(fmt::format(
      "another process works as '{}' with the data folder '{}': give this one another --id", id, data_folder));
}

Identity::~Identity() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
  ::close(lock_);
}

clients::rpc::ConnectOptions Identity::ConnectAs(const clients::rpc::ConnectOptions& enrolment) const {
  clients::rpc::ConnectOptions own{.address = enrolment.address, .credentials_file = file_};
  const absl::StatusOr<Credentials> credentials = ReadCredentials(file_);
  if (!credentials.ok()) return enrolment;
  own.token = credentials->token;
  if (!credentials->key.empty()) {
    own.ca_file = own.certificate_file = own.key_file = file_;
  } else {
    own.ca_file = enrolment.ca_file;
    own.certificate_file = enrolment.certificate_file;
    own.key_file = enrolment.key_file;
  }
  return own;
}

void Identity::KeepRenewed(std::shared_ptr<clients::rpc::Connection> connection) {
  thread_ = std::thread([this, connection = std::move(connection)] { Loop(*connection); });
}

void Identity::Loop(const clients::rpc::Connection& connection) {
  std::unique_lock lock(mutex_);
  do {
    struct stat info {};
    if (::stat(file_.c_str(), &info) != 0 || absl::Now() - absl::FromUnixSeconds(info.st_mtim.tv_sec) < kRenewAfter)
      continue;
    lock.unlock();
    v1::WorkerCredentials given;
    grpc::ClientContext context;
    connection.Prepare(context);
    absl::Status status =
        connection.Check(v1::AccessService::NewStub(connection.channel())->RenewCredentials(&context, {}, &given));
    const absl::StatusOr<Credentials> own = ReadCredentials(file_);
    if (status.ok()) status = own.status();
    if (status.ok()) status = Store(file_, *own, given);
    if (!status.ok())
      LogWarning("the worker's credentials could not be renewed yet: {}", std::string(status.message()));
    lock.lock();
  } while (!stop_.wait_for(lock, kBetweenLooks, [this] { return stopping_; }));
}

}  // namespace loupe::worker::agent
