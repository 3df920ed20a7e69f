// Every unary method by its name, "/loupe.v1.SweepService/GetSweep", without its types.
#pragma once

#include <google/protobuf/message.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "coordinator/api/handlers.h"

namespace loupe::coordinator::http {

struct Method {
  const google::protobuf::Message* request_prototype = nullptr;
  const google::protobuf::Message* response_prototype = nullptr;
  // Answers the call; request and response live until then and have the prototypes' types.
  std::function<void(api::UnaryCall*, const google::protobuf::Message& request, google::protobuf::Message* response)>
      call;
};

class Methods {
 public:
  // Of all services; `handlers` outlives it.
  explicit Methods(api::Handlers& handlers);

  // Null where there is none of that name.
  const Method* Find(std::string_view path) const;
  const std::map<std::string, Method, std::less<>>& all() const { return methods_; }

 private:
  template <typename Api, typename Request, typename Response>
  void Add(const char* path, Api& api, void (Api::*method)(api::UnaryCall*, const Request&, Response*)) {
    methods_[path] = {&Request::default_instance(), &Response::default_instance(),
                      [&api, method](api::UnaryCall* call, const google::protobuf::Message& request,
                                     google::protobuf::Message* response) {
                        (api.*method)(call, static_cast<const Request&>(request), static_cast<Response*>(response));
                      }};
  }

  std::map<std::string, Method, std::less<>> methods_;
};

}  // namespace loupe::coordinator::http
