// A worker's own identity: exchanges an enrolment for credentials that only this worker has, keeps them, and renews
// them.
//
// {data_folder}/credentials/{id}.pem (mode 600) is a credentials file. A worker that is started again finds it and
// needs the enrolment no more; beside it {id}.lock is held as long as the worker lives, so that two workers of one
// machine that have no names of their own take different identities.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/rpc/connection.h"

namespace loupe::worker::agent {

class Identity {
 public:
  // Takes the identity `id` of the data folder, or enrols it. Where `id` is empty: any identity of this host that no
  // other worker holds, or a new one, "{host}-" and four random digits. `enrolment` carries an enrolment token.
  // FAILED_PRECONDITION when another process holds `id`; errors of AccessService.Enrol; UNAVAILABLE when nobody
  // answered for a minute.
  static absl::StatusOr<std::unique_ptr<Identity>> Take(const clients::rpc::ConnectOptions& enrolment,
                                                        const std::string& data_folder, const std::string& id,
                                                        const std::string& host);
  ~Identity();
  Identity(const Identity&) = delete;
  Identity& operator=(const Identity&) = delete;

  const std::string& id() const { return id_; }
  const std::string& file() const { return file_; }
  // How to connect with it: the address stays, token and certificates are the file's.
  clients::rpc::ConnectOptions ConnectAs(const clients::rpc::ConnectOptions& enrolment) const;

  // Renews the credentials once a day for as long as this lives. What fails is logged and tried again.
  void KeepRenewed(std::shared_ptr<clients::rpc::Connection> connection);

 private:
  Identity(std::string id, std::string file, int lock) : id_(std::move(id)), file_(std::move(file)), lock_(lock) {}
  void Loop(const clients::rpc::Connection& connection);

  const std::string id_;
  const std::string file_;
  const int lock_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::worker::agent
