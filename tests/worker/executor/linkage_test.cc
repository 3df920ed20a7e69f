// Whose functions a worker calls where several of its libraries have one of the same name.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>

namespace loupe::worker::executor {
namespace {

// The file that serves `symbol`, or "" where none does.
std::string LibraryOf(const char* symbol) {
  void* function = dlsym(RTLD_DEFAULT, symbol);
  Dl_info where{};
  return function != nullptr && dladdr(function, &where) != 0 ? where.dli_fname : "";
}

// A second BLAS in front of LibTorch's own would serve its layers with other roundings, and with a pool of threads that
// does not know --threads.
TEST(LinkageTest, MatrixProductsAreLibTorchsOwn) {
  for (const char* name : {"sgemm_", "dgemm_"}) {
    EXPECT_NE(LibraryOf(name).find("libtorch_cpu"), std::string::npos) << name << " is " << LibraryOf(name);
  }
}

// LibTorch exports the same functions, and those of its CUDA builds crash.
TEST(LinkageTest, FilesAreTheStandardLibrarys) {
  constexpr char kRemoveAll[] = "_ZNSt10filesystem10remove_allERKNS_7__cxx114pathE";
  EXPECT_NE(LibraryOf(kRemoveAll).find("libstdc++"), std::string::npos) << LibraryOf(kRemoveAll);
}

}  // namespace
}  // namespace loupe::worker::executor
