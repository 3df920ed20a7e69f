// Whose matrix product a worker calls: a second BLAS in front of LibTorch's own would serve its layers with other roundings
// and with a pool of threads that does not know --threads.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>

namespace loupe::worker {
namespace {

TEST(LinearAlgebraTest, MatrixProductsAreLibTorchsOwn) {
  for (const char* name : {"sgemm_", "dgemm_"}) {
    void* function = dlsym(RTLD_DEFAULT, name);
    ASSERT_NE(function, nullptr) << name;
    Dl_info where{};
    ASSERT_NE(dladdr(function, &where), 0) << name;
    EXPECT_NE(std::string(where.dli_fname).find("libtorch_cpu"), std::string::npos) << name << " is " << where.dli_fname;
  }
}

}  // namespace
}  // namespace loupe::worker
