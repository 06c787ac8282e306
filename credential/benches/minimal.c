/* The shortest C program that verifies a proxy with OpenSSL: reads the PEM file, looks up the CA in a
 * hashed directory, verifies the chain with proxies allowed, and sees that the key fits.
 *
 * minimal FILE CADIR TIME COUNT: does it COUNT times and prints the nanoseconds all took together.
 * Nothing is kept from one time to the next, as between two credentials of different users.
 */
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int verify(const char *file, const char *directory, time_t at)
{
    int good = 0;
    BIO *in = BIO_new_file(file, "r");
    X509 *leaf = PEM_read_bio_X509(in, NULL, NULL, NULL);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    STACK_OF(X509) *chain = sk_X509_new_null();
    for (X509 *next; (next = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL;)
        sk_X509_push(chain, next);
    X509_STORE *store = X509_STORE_new();
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_hash_dir());
    X509_LOOKUP_add_dir(lookup, directory, X509_FILETYPE_PEM);
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    X509_STORE_CTX_init(context, store, leaf, chain);
    X509_VERIFY_PARAM *rules = X509_STORE_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_ALLOW_PROXY_CERTS);
    X509_VERIFY_PARAM_set_time(rules, at);
    good = X509_verify_cert(context) == 1 && X509_check_private_key(leaf, key) == 1;
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    sk_X509_pop_free(chain, X509_free);
    EVP_PKEY_free(key);
    X509_free(leaf);
    BIO_free(in);
    return good;
}

int main(int count, char **words)
{
    struct timespec from, to;
    if (count != 5)
        return 2;
    long times = atol(words[4]);
    time_t at = (time_t)atoll(words[3]);
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (long n = 0; n < times; n++)
        if (!verify(words[1], words[2], at))
            return 1;
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%lld\n", (to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec);
    return 0;
}
