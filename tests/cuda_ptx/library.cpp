/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_ptx/library.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <fstream>
#include <iterator>

namespace ptx {

namespace {

/* Both compilers name what lies in an unnamed namespace in their own way; demangled it is the same. */
std::string demangled(const char *name) {
    int status;
    char *text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
    const std::string result = text ? text : name;
    std::free(text);
    return result;
}

std::string contents(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw fault(path + " can't be read");
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/* ---- Names of functions ---------------------------------------------------------------------------- */

template <typename part> part part_at(const std::string &file, uint64_t offset) {
    part found;
    if (offset > file.size() || file.size() - offset < sizeof found) throw fault("an object file ends too early");
    std::memcpy(&found, file.data() + offset, sizeof found);
    return found;
}

/* Kernels are local to their file, so that only the object's full table of symbols has them. */
std::map<uint64_t, std::string> symbols_of(const std::string &object) {
    std::map<uint64_t, std::string> names;
    const auto head = part_at<Elf64_Ehdr>(object, 0);
    for (unsigned i = 0; i < head.e_shnum; i++) {
        const auto section = part_at<Elf64_Shdr>(object, head.e_shoff + i * sizeof(Elf64_Shdr));
        if (section.sh_type != SHT_SYMTAB) continue;
        const auto strings = part_at<Elf64_Shdr>(object, head.e_shoff + section.sh_link * sizeof(Elf64_Shdr));
        for (uint64_t at = 0; at < section.sh_size; at += sizeof(Elf64_Sym)) {
            const auto symbol = part_at<Elf64_Sym>(object, section.sh_offset + at);
            if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC)
                names[symbol.st_value] = object.c_str() + strings.sh_offset + symbol.st_name;
        }
    }
    return names;
}

std::string name_at(const void *function) {
    static std::map<const void *, std::string> known;
    const auto before = known.find(function);
    if (before != known.end()) return before->second;
    Dl_info object;
    if (!dladdr(function, &object)) throw fault("a kernel is in no object");
    const auto names = symbols_of(contents(object.dli_fname));
    const auto found = names.find(
        static_cast<uint64_t>(static_cast<const char *>(function) - static_cast<const char *>(object.dli_fbase)));
    if (found == names.end()) throw fault(std::string(object.dli_fname) + " has no name for a kernel");
    return known[function] = demangled(found->second.c_str());
}

/* ---- Kernels --------------------------------------------------------------------------------------- */

void add_file(const std::string &path, std::map<std::string, kernel> *all) {
    try {
        for (const auto &entry : parse(contents(path))) (*all)[demangled(entry.first.c_str())] = entry.second;
    } catch (const fault &what) {
        throw fault(path + ": " + what.what());
    }
}

std::map<std::string, kernel> read_folder(const std::string &folder) {
    std::map<std::string, kernel> all;
    DIR *list = opendir(folder.c_str());
    if (!list) throw fault(folder + " can't be read");
    while (const dirent *entry = readdir(list)) {
        const std::string name = entry->d_name;
        if (name.size() > 4 && name.compare(name.size() - 4, 4, ".ptx") == 0) add_file(folder + "/" + name, &all);
    }
    closedir(list);
    return all;
}

/* Throws a fault where there is none. */
const kernel &kernel_at(const void *function) {
    static const std::map<std::string, kernel> all = read_folder(std::getenv("ATTN_CUDA_PTX"));
    const std::string name = name_at(function);
    const auto found = all.find(name);
    if (found == all.end()) throw fault("no PTX of " + name);
    return found->second;
}

} // namespace

bool wanted() { return std::getenv("ATTN_CUDA_PTX") != nullptr; }

bool run_instead(const void *function, const launch &how) {
    try {
        run(kernel_at(function), how);
        return true;
    } catch (const fault &what) {
        std::fprintf(stderr, "ptx: %s\n", what.what());
        return false;
    }
}

} // namespace ptx
