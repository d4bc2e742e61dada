/** What runs in the enclave. Put your program here. */
public class Main {
    public static void main(String[] arguments) throws InterruptedException {
        Thread thread = new Thread(() -> System.out.println("Hello from Java " + Runtime.version()));
        thread.start();
        thread.join();
    }
}
