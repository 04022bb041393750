/* SPDX-License-Identifier: Apache-2.0
 *
 * Prints the key vectors: build/tests/make_key_vectors > tests/golden/key_vectors.txt. Only a new version of the key
 * format may change that file.
 */
#include "hash/hash.h"
#include "tests/key_vectors.h"

int main(void)
{
    if (!kvt_sha256_available()) {
        fputs("make_key_vectors: needs a build with SHA-256 (KVT_SHA256=ON), or half of the vectors would be missing\n",
              stderr);
        return 1;
    }
    key_vectors_print(stdout);
    return fflush(stdout) == 0 ? 0 : 1;
}
